"""Decode: the clip's latents -> its frames, a few at a time, straight into the shared block."""

from collections.abc import Iterator, Sequence

import torch
from einops import rearrange

from .finite import is_finite, overflowed
from .load import Model


def decode(model: Model, latents_BCFHW: torch.Tensor, out_FHWC: torch.Tensor, places: Sequence[int]) -> Iterator[Sequence[int]]:
    """Write float32 frames in [0, 1] to some places of `out_FHWC`; yield a few places after each few that are done.

    A place holds one latent and one frame. Raises Overflowed, and writes nothing, where the VAE's numbers are not finite.
    """
    at_once = model.folder.decoded_at_once
    for start in range(0, len(places), at_once):
        some = places[start : start + at_once]
        part = rearrange(latents_BCFHW[0, :, list(some)], "c f h w -> f c h w") / model.folder.scaling_factor
        with torch.inference_mode():
            images = model.vae.decode(part.to(model.vae.device, model.dtype)).sample
        if not is_finite(images):
            raise overflowed(model.dtype, "while the VAE decoded")
        write_frames(images, out_FHWC, some)
        yield some


def write_frames(images_FCHW: torch.Tensor, out_FHWC: torch.Tensor, places: Sequence[int]) -> None:
    """Write what a VAE decoded, in [-1, 1], as frames in [0, 1] to some places."""
    for image, place in zip(images_FCHW, places, strict=True):  # a frame at a time stays in a cache: three times as fast
        out_HWC = out_FHWC[place]
        for channel, plane in enumerate(image.float().cpu()):
            torch.add(0.5, plane, alpha=0.5, out=out_HWC[..., channel])  # in place: half as long again as through a copy
        out_HWC.clamp_(0, 1)
