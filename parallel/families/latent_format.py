"""Latents as the VAE has them and as the net sees them: files and ComfyUI's LATENT hold the first, the engine works on the second."""

import torch
from pydantic import Field

from ..job.job import Frozen


class LatentFormat(Frozen):
    """The net sees (raw - mean) / std, channel by channel; one number stands for all channels."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    is_video: bool = Field(
        False, description="ComfyUI has them as (1, C, T, h, w), and not, as of a VAE for pictures, (T, C, h, w)"
    )

    def arrange(self, raw_CTHW: torch.Tensor) -> torch.Tensor:
        """Return a video's raw latents in the layout that ComfyUI's nodes have them in."""
        return (raw_CTHW[None] if self.is_video else raw_CTHW.movedim(0, 1)).contiguous()

    def to_raw(self, latents: torch.Tensor, *, dim: int) -> torch.Tensor:
        """Return latents as the VAE has them, float32; `dim` is that of the channels."""
        mean, std = self._along(latents, dim)
        return latents.float() * std + mean

    def from_raw(self, raw: torch.Tensor, *, dim: int) -> torch.Tensor:
        """Return the VAE's latents as the net sees them, float32; `dim` is that of the channels."""
        mean, std = self._along(raw, dim)
        return (raw.float() - mean) / std

    def _along(self, latents: torch.Tensor, dim: int) -> list[torch.Tensor]:
        shape = [-1 if place == dim else 1 for place in range(latents.ndim)]
        return [torch.tensor(each, device=latents.device).view(shape) for each in (self.mean, self.std)]
