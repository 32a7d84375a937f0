"""Latents in a file, in the form of ComfyUI's SaveLatent and LoadLatent: the VAE's raw ones, as its LATENT means them.

The engine's own latents are what the net sees: converted here from the VAE's raw ones (families/latent_format.py).
"""

import logging
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..families.geometry import Geometry
from ..families.latent_format import LatentFormat
from ..families.safety import MAX_OWN_HEADER, claimed_header
from ..job.errors import JobRefused
from ..pool.whole import whole

log = logging.getLogger(__name__)
SUFFIXES = (".safetensors", ".latent")
TENSOR, RAW, EARLIER = "latent_tensor", "latent_format_version_0", "latents"
PICTURES = Geometry(scale=8)  # of a VAE that makes one frame of each latent
BEFORE_RAW = 0.18215  # ComfyUI's files without the mark RAW hold what Stable Diffusion's net saw


def save(path: Path, latents_BCTHW: torch.Tensor, form: LatentFormat) -> None:
    """Write a video's latents, as the net sees them, as ComfyUI's nodes would: the VAE's raw ones, in their layout. Raises OSError.

    A frame is an item of the batch: of the whole video as one item ComfyUI's VAE Decode, with a VAE for pictures, shows the
    first frame alone.
    """
    raw = form.arrange(form.to_raw(latents_BCTHW[0], dim=0))
    try:
        with whole(path) as part:
            save_file({TENSOR: raw, RAW: torch.tensor([])}, part)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def rescue(folders: list[Path], latents_BCTHW: torch.Tensor, form: LatentFormat) -> Path | None:
    """Write latents to a new file in the first folder that takes it, and return it, or None: they are all that is left."""
    for folder in folders:
        with suppress(OSError):
            descriptor, name = tempfile.mkstemp(prefix="video-infinity-", suffix=".latent", dir=folder)
            os.close(descriptor)
            try:
                save(Path(name), latents_BCTHW, form)
            except OSError:
                os.unlink(name)
                raise
            return Path(name)
    return None


def load(
    path: Path,
    shape_CTHW: tuple[int, ...],
    form: LatentFormat,
    *,
    geometry: Geometry = PICTURES,
    notify: Callable[[str], None] = log.warning,
) -> torch.Tensor:
    """Return a file's latents as the net sees them, (C, T, h, w) float32 as asked for; one frame stands for all.

    Files of earlier versions of this pack, whose tensor is called `latents`, hold what the net sees. `notify` says of frames
    that they are left out. Raises JobRefused if the file holds no latents of this model and size.
    """
    if not os.path.exists(path):
        raise JobRefused(f"init {path} does not exist: give a file that --latents or ComfyUI's SaveLatent wrote")
    try:
        size = claimed_header(path)
        if size > MAX_OWN_HEADER:
            raise JobRefused(_none(path, f"its header claims {size} bytes"))
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            name = next((name for name in (TENSOR, EARLIER) if name in keys), None)
            if name is None:
                raise JobRefused(_none(path, f"wanted {TENSOR}, got {', '.join(keys[:5]) or 'nothing'}"))
            _check(path, tuple(file.get_slice(name).get_shape()), shape_CTHW, geometry)
            latents = file.get_tensor(name).float()
    except (OSError, SafetensorError) as error:
        raise JobRefused(_none(path, str(error)[:200])) from None
    if name == TENSOR:
        raw = latents if RAW in keys else latents / BEFORE_RAW
        latents = form.from_raw(raw, dim=1)
    if not bool(torch.isfinite(latents).all()):
        raise JobRefused(_none(path, "it holds numbers that are not finite"))
    return _frames(path, latents, shape_CTHW[1], notify)


def _check(path: Path, got: tuple[int, ...], shape_CTHW: tuple[int, ...], geometry: Geometry) -> None:
    """Refuse latents of another model, size or length before any is read."""
    channels, latents, height, width = shape_CTHW
    if len(got) == 4:
        got = (1, got[1], got[0], *got[2:])
    if len(got) != 5 or got[0] != 1 or 0 in got:
        wanted = "wanted latents of one video, (T, C, h, w) or (1, C, T, h, w)"
        raise JobRefused(f"init {path}: {wanted}, got {got}: encode it as one video")
    if got[1] != channels:
        raise JobRefused(f"init {path}: wanted latents of {channels} channels, got {got[1]}: they are of another model")
    if got[3:] != (height, width):
        raise JobRefused(
            f"init {path}: wanted latents of {width}x{height}, got {got[4]}x{got[3]}: use its --width and --height"
        )
    if got[2] < latents and got[2] != 1:
        unit = "frames" if geometry.frames_per_latent == 1 else "latents"
        frames = len(geometry.frames_of(range(got[2])))
        raise JobRefused(f"init {path}: wanted {latents} {unit} (or one for all), got {got[2]}: use --frames {frames}")


def _frames(path: Path, latents: torch.Tensor, frames: int, notify: Callable[[str], None]) -> torch.Tensor:
    """Return so many frames, (C, T, h, w), of (1, C, T, h, w), or of (T, C, h, w), as ComfyUI's nodes give pictures."""
    latents_CTHW = latents[0] if latents.ndim == 5 else latents.movedim(0, 1)
    if latents_CTHW.shape[1] > frames:
        notify(f"init {path} has {latents_CTHW.shape[1]} frames: the first {frames} are used")
    return latents_CTHW[:, :frames].expand(-1, frames, -1, -1).contiguous()


def _none(path: Path, why: str) -> str:
    return f"init {path} holds no latents ({why}): give a file that --latents or ComfyUI's SaveLatent wrote"
