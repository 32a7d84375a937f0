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
        write(images, out_FHWC, start)
        yield start + len(images)


def write(images_FCHW: torch.Tensor, out_FHWC: torch.Tensor, start: int) -> None:
    """Write what a VAE decoded, in [-1, 1], as frames in [0, 1], from frame `start` on."""
    for image, frame in zip(images_FCHW, out_FHWC[start:]):  # a frame at a time stays in a cache: three times as fast
        frame.copy_(torch.add(0.5, image.float(), alpha=0.5).clamp_(0, 1).permute(1, 2, 0))
