"""The UNets that are measured: the standard bench, small enough for two cores, and VideoCrafter2's sizes."""

import torch
from diffusers import UNet3DConditionModel

FRAMES = 48
LATENT = 32  # pixels on a side of the standard bench's latents
LOCAL, GLOBAL = 8, 8
TOKENS, TEXT_WIDTH = 8, 64
STANDARD = {
    "sample_size": LATENT,
    "down_block_types": ("CrossAttnDownBlock3D",) * 2,
    "up_block_types": ("CrossAttnUpBlock3D",) * 2,
    "block_out_channels": (64, 128),
    "layers_per_block": 1,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 16,
    "norm_num_groups": 32,
}
VIDEO_CRAFTER = {"sample_size": 64, "cross_attention_dim": 1024}  # the rest are diffusers' defaults, as in its folder
VIDEO_CRAFTER_LATENT = (40, 64)  # 512x320 pixels
VIDEO_CRAFTER_CALL_TFLOP = 37.8  # at 24 frames of 512x320 with CFG


def unet(config: dict | None = None) -> UNet3DConditionModel:
    """Return a UNet of seeded random weights, to be evaluated only."""
    torch.manual_seed(0)
    return UNet3DConditionModel(**(config or STANDARD)).eval().requires_grad_(False)


def call(frames: int, latent: int = LATENT) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a UNet call's latents with CFG, (2, 4, T, H, W), and embeddings, (2, L, D)."""
    generator = torch.Generator().manual_seed(1)
    video = torch.randn(2, 4, frames, latent, latent, generator=generator)
    return video, torch.randn(2, TOKENS, TEXT_WIDTH, generator=generator)
