"""A preview: frames from the whole video as one picture, in true colours where a model's are known."""

import logging
import math
from itertools import cycle
from pathlib import Path

import torch
from PIL import Image
from pydantic import ValidationError

from ..parallel.job.job import Finite, Frozen

log = logging.getLogger(__name__)
SIDE = 3  # frames across, and frames down
GAP = 2  # pixels between two frames
FILE = "latent_rgb_factors.json"  # in a VAE's folder, where its model comes with colours of its own
MOST_BYTES = 100_000  # of that file
Row = tuple[Finite, Finite, Finite]


class Colours(Frozen):
    """A linear map from latents to colours in [-1, 1], under ComfyUI's names: (R, G, B) of each channel, and what is added.

    Unlike ComfyUI's, it may also take a frame's mean latent: a small VAE says there what all of the frame has in common.
    """

    latent_rgb_factors: tuple[Row, ...]
    latent_rgb_factors_of_mean: tuple[Row, ...] = ()
    latent_rgb_factors_bias: Row = (0.0, 0.0, 0.0)


def stored_colours(vae: Path, channels: int) -> Colours | None:
    """Return the colours that a VAE's folder holds; None if it holds none that fit its latents. A preview ends no run."""
    file = vae / FILE
    if not file.is_file() or file.stat().st_size > MOST_BYTES:
        return None
    try:
        colours = Colours.model_validate_json(file.read_bytes())
    except ValidationError as error:
        log.warning("%s: previews are without colours: %s", file, error)
        return None
    rows = {len(colours.latent_rgb_factors), len(colours.latent_rgb_factors_of_mean or colours.latent_rgb_factors)}
    return colours if rows == {channels} else None


def is_format_of(form, channels: int, std: tuple[float, ...]) -> bool:
    """Return whether one of ComfyUI's latent formats is that of a VAE: its nets see as many channels, on the same scale."""
    one_CTHW = torch.ones(1, form.latent_channels, 1, 1, 1)
    span = form.process_out(one_CTHW) - form.process_out(torch.zeros_like(one_CTHW))
    same_scale = all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(span.flatten().tolist(), cycle(std)))
    return channels == form.latent_channels and same_scale


def grid(latents_CTHW: torch.Tensor, colours: Colours | None, size: int) -> Image.Image:
    """Return up to 9 frames spread over the whole video, row by row, in a picture of at most `size` pixels a side.

    It has as many rows as columns, and so the shape of a frame.
    """
    frames, height, width = latents_CTHW.shape[1:]
    side = min(SIDE, math.isqrt(frames))
    chosen = torch.linspace(0, frames - 1, side * side).round().long()
    frames_FHWC = paint(latents_CTHW[:, chosen].float().nan_to_num(), colours)
    scale = (size - GAP * (side - 1)) / (side * max(height, width))
    tile_width, tile_height = max(1, int(width * scale)), max(1, int(height * scale))
    step_x, step_y = tile_width + GAP, tile_height + GAP
    picture = Image.new("RGB", (side * step_x - GAP, side * step_y - GAP))
    for place, frame_HWC in enumerate(frames_FHWC):
        tile = Image.fromarray(frame_HWC.numpy()).resize((tile_width, tile_height), Image.Resampling.BILINEAR)
        picture.paste(tile, (place % side * step_x, place // side * step_y))
    return picture


def paint(latents_CFHW: torch.Tensor, colours: Colours | None) -> torch.Tensor:
    """Return frames in uint8, (F, H, W, 3): in given colours, else three channels, each stretched to the range of colours."""
    if colours is not None:
        shares = (_mapped(latents_CFHW.movedim(0, -1), colours) + 1) / 2
    else:
        shown = latents_CFHW[:3] if len(latents_CFHW) >= 3 else latents_CFHW[:1].expand(3, -1, -1, -1)
        low, high = shown.amin((1, 2, 3), keepdim=True), shown.amax((1, 2, 3), keepdim=True)
        shares = ((shown - low) / (high - low).clamp(min=1e-6)).movedim(0, -1)
    return (shares.clamp(0, 1) * 255).to(torch.uint8)


def _mapped(latents_FHWC: torch.Tensor, colours: Colours) -> torch.Tensor:
    mapped = latents_FHWC @ torch.tensor(colours.latent_rgb_factors) + torch.tensor(colours.latent_rgb_factors_bias)
    if colours.latent_rgb_factors_of_mean:
        mapped = mapped + latents_FHWC.mean((1, 2), keepdim=True) @ torch.tensor(colours.latent_rgb_factors_of_mean)
    return mapped
