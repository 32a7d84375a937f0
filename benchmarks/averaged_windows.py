"""Long videos by averaged windows, of a caption and, if one is given, of an image: how ComfyUI's context windows make them."""

from functools import cache
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from einops import rearrange

# Latents: ComfyUI's 21 with an overlap of 8, in proportion to what the small models are trained on; no stride of 6, after which
# the moving shapes are back where they were.
WINDOW, STRIDE = 9, 7


@cache
def pipeline_of(model: Path) -> DiffusionPipeline:
    """Return the stock pipeline of a folder, whose parts the windows are made with."""
    pipeline = DiffusionPipeline.from_pretrained(model).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def starts(latents: int, window: int = WINDOW, stride: int = STRIDE) -> list[int]:
    """Return the latents that windows begin with; the last window ends with the video."""
    regular = range(0, max(1, latents - window + 1), stride)
    return sorted({*regular, max(0, latents - window)})


def ramp(window: int = WINDOW) -> torch.Tensor:
    """Return how much each latent of a window counts, (window,): most in its middle, as ComfyUI's `pyramid`."""
    place = torch.arange(window)
    return torch.minimum(place + 1, window - place).float()


@torch.no_grad()
def make(
    model: Path, caption: str, *, frames: int, seed: int, steps: int, guidance: float, image_HWC: torch.Tensor | None = None
) -> torch.Tensor:
    """Return a video, (F, H, W, 3) in [0, 1], whose windows are denoised by themselves and averaged after each step.

    A model for images needs one, with which each window begins.
    """
    pipeline = pipeline_of(model)
    vae, net, scheduler = pipeline.vae, pipeline.transformer, pipeline.scheduler
    mean, std = (torch.tensor(part).view(1, -1, 1, 1, 1) for part in (vae.config.latents_mean, vae.config.latents_std))
    latents = (frames - 1) // 4 + 1
    x = torch.randn(1, len(mean[0]), latents, 8, 8, generator=torch.Generator().manual_seed(seed))
    condition = x[:, :0, :WINDOW] if image_HWC is None else condition_of(vae, image_HWC, mean, std)
    texts = told(pipeline, caption)
    scheduler.set_timesteps(steps)
    for timestep in scheduler.timesteps:
        guess, weight = torch.zeros_like(x), torch.zeros(latents)
        for start in starts(latents):
            own = slice(start, start + WINDOW)
            seen = torch.cat([x[:, :, own], condition], dim=1).expand(2, -1, -1, -1, -1)
            branches = net(seen, timestep.expand(2), texts, return_dict=False)[0]
            guided = branches[1:] + guidance * (branches[:1] - branches[1:])
            guess[:, :, own] += guided * ramp().view(1, 1, -1, 1, 1)
            weight[own] += ramp()
        x = scheduler.step(guess / weight.view(1, 1, -1, 1, 1), timestep, x, return_dict=False)[0]
    video = vae.decode(x * std + mean, return_dict=False)[0]
    return rearrange(video[0] / 2 + 0.5, "c f h w -> f h w c").clamp(0, 1)


def condition_of(vae, image_HWC: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Return a window's condition channels, (1, 4 + C, WINDOW, 8, 8), whose first frame is the image."""
    clip = torch.zeros(1, 3, 4 * WINDOW - 3, *image_HWC.shape[:2])
    clip[0, :, 0] = rearrange(image_HWC, "h w c -> c h w") * 2 - 1
    encoded = (vae.encode(clip).latent_dist.mode() - mean) / std
    mask = torch.zeros(1, 4, *encoded.shape[2:])
    mask[:, :, 0] = 1
    return torch.cat([mask, encoded], dim=1)


def told(pipeline: DiffusionPipeline, caption: str) -> torch.Tensor:
    """Return what the net is told with the caption and with none, (2, tokens, width), zeros behind the texts."""
    tokens = pipeline.tokenizer([caption, ""], padding="max_length", return_tensors="pt")
    hidden = pipeline.text_encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
    return hidden * tokens.attention_mask[..., None]
