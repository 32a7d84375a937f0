"""Train the small Wan models' VAE on moving shapes."""

import logging
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from einops import rearrange
from torch.nn.functional import max_pool2d

from scripts.moving_wan import build_vae
from scripts.shapes import Scene, all_kinds, draw_scene, render_all
from scripts.train_moving_shapes import load_state, rate, save_state

log = logging.getLogger("train")
PEAK = 1.5e-3  # learning rate
EDGES = 0.5  # weight of the differences between neighbours: a mean error alone leaves edges soft
KL = 3e-4  # weight, of a latent's mean
BLANK = 0.15  # of clips: all frames but a few are blank, as in the condition of a model for images


def train_vae(work: Path, steps: int, batch: int, device: torch.device) -> AutoencoderKLWan:
    """Train the VAE to `steps`, from its checkpoint on, and return it."""
    torch.backends.cudnn.benchmark = True  # its guesses are poor for convolutions over time of few channels
    vae, file = build_vae().to(device), work / "vae.pt"
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK, weight_decay=1e-4, fused=True)
    state = load_state(file)
    if state["step"]:
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
    began = time.time()
    for step in range(state["step"], steps):
        generator = torch.Generator().manual_seed(step)
        optimizer.param_groups[0]["lr"] = rate(step, steps, PEAK)
        frames = (5, 9, 5, 13)[step % 4]
        clips_BCFHW = random_clips(batch, frames, generator, device)
        with halves(device):
            loss, error = loss_of(vae, clips_BCFHW)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == steps - 1:
            log.info("vae %d/%d loss %.4f l1 %.4f (%.1f s)", step, steps, loss.item(), error.item(), time.time() - began)
        if step % 100 == 99 or step == steps - 1:
            save_state(file, step=step + 1, vae=vae.state_dict(), optimizer=optimizer.state_dict())
    return vae.eval().requires_grad_(False)


def halves(device: torch.device) -> torch.autocast:
    """Return a context that computes in bfloat16 on a GPU; a CPU without instructions for it takes 25 times as long as in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def random_clips(count: int, frames: int, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """Return random scenes' first frames, (B, 4, F, 64, 64): colours in [-1, 1], and how much each pixel counts."""
    kinds = all_kinds()
    chosen = torch.randint(len(kinds), (count,), generator=generator).tolist()
    clips = clips_of([draw_scene(kinds[number], generator) for number in chosen], frames, device)  # a scene's phase is random
    blank = torch.rand(count, 1, generator=generator) < BLANK
    blank = blank & (torch.rand(count, frames, generator=generator) < 0.7)
    seen = rearrange(~blank, "b f -> b 1 f 1 1").to(device)
    return torch.cat([clips * seen, weigh(clips)], dim=1)


def weigh(clips_BCFHW: torch.Tensor) -> torch.Tensor:
    """Return how much each pixel counts, (B, 1, F, H, W).

    A shape is a tenth of the picture; unweighted, its colour is learnt last. What tells a square from a circle are few pixels
    at its edge, which count most.
    """
    inside = ((clips_BCFHW - clips_BCFHW[..., :1, :1]).abs().amax(1) > 0.04).float()
    thick, thin = max_pool2d(inside, 5, 1, 2), -max_pool2d(-inside, 5, 1, 2)
    return (1 + 4 * inside + 6 * (thick - thin))[:, None]


def clips_of(scenes: list[Scene], frames: int, device: torch.device) -> torch.Tensor:
    """Return scenes' first frames, (B, 3, F, 64, 64) in [-1, 1]."""
    return rearrange(render_all(scenes, torch.arange(frames), device), "b f c h w -> b c f h w") * 2 - 1


def loss_of(vae: AutoencoderKLWan, clips_BCFHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of clips, and their mean absolute error alone."""
    clips, weight = clips_BCFHW.split((3, 1), dim=1)
    posterior = vae.encode(clips).latent_dist
    error = decode_open(vae, posterior.sample()).float() - clips
    edges = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2
    weighted = error * weight
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    loss = weighted.abs().mean() + weighted.pow(2).mean() + EDGES * edges + KL * kl
    return loss, error.detach().abs().mean()


def decode_open(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """Decode as `vae.decode` does, but without its clamp to [-1, 1], which has no gradient where a colour overshoots."""
    vae.clear_cache()
    cache, frames = vae._feat_map, []
    for place, latent in enumerate(vae.post_quant_conv(latents).split(1, dim=2)):
        frames.append(vae.decoder(latent, feat_cache=cache, feat_idx=[0], first_chunk=place == 0))
    vae.clear_cache()
    return unpatchify(torch.cat(frames, dim=2), vae.config.patch_size)
