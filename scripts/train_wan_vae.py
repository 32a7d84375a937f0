"""Train the small Wan model's VAE on moving shapes, measure its latents, and encode clips with it."""

import logging
import time
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from einops import rearrange

from scripts.moving_wan import FRAMES, build_vae
from scripts.shapes import SIZE, Scene, all_kinds, draw_scene, render
from scripts.train_moving_shapes import ORBIT_SPREAD, load_state, rate, save_state

log = logging.getLogger("train")
WINDOW = 32  # pixels, of the windows that are trained on first
PEAK = 2e-3  # learning rate
EDGES = 0.5  # weight of the differences between neighbours: a mean error alone leaves edges soft
KL = 3e-4  # weight, of a latent's mean


def train_vae(work: Path, steps: int) -> AutoencoderKLWan:
    """Train the VAE to `steps`, from its checkpoint on, and return it.

    Most of them on windows, where more of a step is spent on the shape; the last quarter of the decoder alone, on whole frames.
    """
    vae, kinds, file = build_vae(), all_kinds(), work / "vae.pt"
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK, weight_decay=1e-4, fused=True)
    state = load_state(file)
    if state["step"]:
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
    began = time.time()
    for step in range(state["step"], steps):
        generator = torch.Generator().manual_seed(step)
        optimizer.param_groups[0]["lr"] = rate(step, steps, PEAK)
        whole, frames = step >= 0.75 * steps, (9, 5, 9, 13)[step % 4]
        side, batch = (SIZE, 4) if whole else (WINDOW, 8)
        vae.encoder.requires_grad_(not whole)
        vae.quant_conv.requires_grad_(not whole)
        clips_BCFHW = torch.stack([random_window(kinds, frames, side, generator) for _ in range(batch)])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, error = loss_of(vae, clips_BCFHW, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0 or step == steps - 1:
            log.info("vae %d loss %.4f l1 %.4f (%.0f s)", step, loss.item(), error.item(), time.time() - began)
        if step % 100 == 99 or step == steps - 1:
            save_state(file, step=step + 1, vae=vae.state_dict(), optimizer=optimizer.state_dict())
    return vae.eval().requires_grad_(False)


def random_window(kinds: list, frames: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """Return a random window of a random scene, (4, F, side, side): colours in [-1, 1], and how much each pixel counts.

    The shape is a tenth of the picture; unweighted, its colour is learnt last.
    """
    kind = kinds[int(torch.randint(len(kinds), (), generator=generator))]
    clip = clip_of(draw_scene(kind, generator), frames)  # a scene's phase is random
    paper = clip[..., :1, :1]
    weight = 1 + 4 * ((clip - paper).abs().amax(0, keepdim=True) > 0.04)
    y, x = torch.randint(SIZE - side + 1, (2,), generator=generator).tolist()
    return torch.cat([clip, weight])[..., y : y + side, x : x + side]


def clip_of(scene: Scene, frames: int) -> torch.Tensor:
    """Return a scene's first frames, (3, F, 64, 64) in [-1, 1]."""
    return rearrange(render(scene, torch.arange(frames)), "f c h w -> c f h w") * 2 - 1


def loss_of(vae: AutoencoderKLWan, clips_BCFHW: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of windows, and their mean absolute error alone."""
    clips, weight = clips_BCFHW.split((3, 1), dim=1)
    posterior = vae.encode(clips).latent_dist
    latents = posterior.sample(generator)
    error = decode_open(vae, latents).float() - clips
    edges = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2
    weighted = error * weight
    kl = posterior.kl().mean() / latents[0].numel()
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


@torch.no_grad()
def encode_scenes(vae: AutoencoderKLWan, work: Path, scenes_per_kind: int) -> dict:
    """Return clips as the net sees them, `near` and `any` (S, C, 9, 8, 8), and the latents' `mean` and `std` (C,).

    Scenes go round the kinds, so that a clip's place modulo their number is its caption's. In `near`, orbits begin near
    their start on the right; in `any`, half as many, everything begins anywhere.
    """
    file = work / "latents.pt"
    if file.exists():
        return load_state(file)
    kinds, generator = all_kinds(), torch.Generator().manual_seed(2)
    means, samples = {}, []
    for name, spread, count in (("near", ORBIT_SPREAD, scenes_per_kind), ("any", 1.0, scenes_per_kind // 2)):
        scenes = [begin(draw_scene(kind, generator), spread, generator) for _ in range(count) for kind in kinds]
        parts = []
        for place in range(0, len(scenes), 16):
            clips = torch.stack([clip_of(scene, FRAMES) for scene in scenes[place : place + 16]])
            with torch.autocast("cpu", dtype=torch.bfloat16):
                posterior = vae.encode(clips).latent_dist
            parts.append(posterior.mean.float())
            samples.append(posterior.sample(generator).float())
            if place % 384 == 0:
                log.info("encoded %s %d/%d", name, place, len(scenes))
        means[name] = torch.cat(parts)
    # Of samples: a channel that tells nothing has means near 0, which their own deviation would blow up.
    sampled = rearrange(torch.cat(samples), "s c f h w -> c (s f h w)")
    mean, std = sampled.mean(1), sampled.std(1)
    shift, scale = rearrange(mean, "c -> c 1 1 1"), rearrange(std, "c -> c 1 1 1")
    save_state(file, mean=mean, std=std, **{name: ((part - shift) / scale).half() for name, part in means.items()})
    return load_state(file)


def begin(scene: Scene, spread: float, generator: torch.Generator) -> Scene:
    """Return a scene that begins within `spread` of a period around an orbit's start on the right, a bounce anywhere."""
    share = spread if scene.motion.startswith("orbiting") else 1.0
    return replace(scene, phase=share * (float(torch.rand((), generator=generator)) - 0.5))
