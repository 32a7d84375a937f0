"""Decode: the clip's latents -> its frames, a few at a time, straight into the shared block."""

from collections.abc import Iterator

import torch

from ..protocol import DECODED_AT_ONCE
from .load import Model


def decode(model: Model, latents_BCFHW: torch.Tensor, out_FHWC: torch.Tensor) -> Iterator[int]:
    """Write float32 frames in [0, 1] to `out_FHWC`; yield how many are done after each few."""
    for start in range(0, len(out_FHWC), DECODED_AT_ONCE):
        part = latents_BCFHW[0, :, start : start + DECODED_AT_ONCE].movedim(1, 0) / model.vae.config.scaling_factor
        with torch.inference_mode():
            images = model.vae.decode(part.to(model.vae.device, model.dtype)).sample
        frames = (images.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
        out_FHWC[start : start + len(frames)] = frames.cpu()
        yield start + len(frames)
