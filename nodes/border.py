"""What ComfyUI means by LATENT and IMAGE, and what the engine takes and gives.

A LATENT holds the VAE's own numbers; the engine's latents are what the net sees (families/latent_format.py). Of a VAE for
videos it is (1, C, T, h, w), and four dimensions are pictures. Of a VAE for pictures ComfyUI's VAE Decode shows the first frame
alone of such a LATENT, and its VAE Encode makes (T, C, h, w) of T pictures: so these nodes give out that, a frame an item of the
batch, and take both.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from ..parallel.families.table import ModelFolder
from ..parallel.job.errors import JobRefused
from ..parallel.job.job import Job
from ..parallel.pool.init import check_finite
from . import host

FRAMES = "video_infinity_frames"  # of a LATENT: how many of its frames the video has, where its last latent holds more


@dataclass(frozen=True)
class Init:
    """What a sampler starts from: latents (C, T, h, w) as the net sees them, or frames (T, H, W, 3); T may be 1 for all."""

    kind: Literal["latent", "image"]  # the input that it came by
    values: torch.Tensor
    frames: int
    height: int  # in pixels, as is width
    width: int

    @property
    def size(self) -> tuple[int, int, int]:
        """Frames, height and width."""
        return self.frames, self.height, self.width


def to_comfyui(latents_BCTHW: torch.Tensor, model: ModelFolder, *, frames: int) -> dict:
    """Return the latents of a video of some frames, (1, C, T, h, w) as the net sees them, as a LATENT."""
    form, latents = model.latent_format, latents_BCTHW.shape[2]
    is_full = frames == len(model.geometry.frames_of(range(latents)))
    return {"samples": form.arrange(form.to_raw(latents_BCTHW[0], dim=0)), **({} if is_full else {FRAMES: frames})}


def frames_in(latent: dict, latents: int, model: ModelFolder) -> int:
    """Return how many frames a LATENT of so many latents has: those of the video that it was made for, else all that it holds."""
    said = latent.get(FRAMES)
    if isinstance(said, int) and said > 0 and model.geometry.latents(said) == latents:
        return said
    return len(model.geometry.frames_of(range(latents)))


def from_comfyui(latent: dict, model: ModelFolder) -> torch.Tensor:
    """Return a LATENT as the net sees it, (C, T, h, w); raise JobRefused if it is of another model or layout."""
    _check_kind(latent, model)
    samples, channels, is_video = latent["samples"], model.latent_channels, model.latent_format.is_video
    pictures = "" if is_video else f"(T, {channels}, h, w) or "
    wanted, got = f"wanted a video's latents, {pictures}(1, {channels}, T, h, w)", tuple(samples.shape)
    if is_video and samples.ndim == 4:
        samples = samples.unsqueeze(2)  # pictures, each a video of one frame
    if samples.ndim == 5 and samples.shape[0] != 1:
        raise JobRefused(f"latent: {wanted}, got {got}, a batch of {got[0]} videos: run them one by one")
    if samples.ndim not in (4, 5) or samples.shape[1] != channels or 0 in got:
        raise JobRefused(f"latent: {wanted}, got {got}: use one that this model's VAE made")
    check_finite("latent", samples)
    raw_CTHW = samples[0] if samples.ndim == 5 else samples.movedim(1, 0)
    return model.latent_format.from_raw(raw_CTHW, dim=0)


def _check_kind(latent: dict, model: ModelFolder) -> None:
    """Raise JobRefused if a LATENT's fields say that it is not that of a video of this model."""
    samples = latent["samples"]
    if getattr(samples, "is_nested", False):
        raise JobRefused(
            "latent: wanted one video's latents, got several tensors in one, as of video with sound: separate them"
        )
    if "type" in latent:
        raise JobRefused(f"latent: wanted a video's latents, got those of type {latent['type']!r}: use another node for them")
    ratios = {"downscale_ratio_spacial": model.scale, "downscale_ratio_temporal": model.geometry.frames_per_latent}
    for field, ratio in ratios.items():
        if latent.get(field, ratio) != ratio:
            raise JobRefused(f"latent: wanted {field} {ratio}, got {latent[field]}: use a latent that was made for this model")


def init_of(latent: dict | None, image: torch.Tensor | None, model: ModelFolder) -> Init | None:
    """Return what a sampler's inputs `latent` and `image` hold, None if neither is connected; raise JobRefused."""
    if latent is not None and image is not None:
        raise JobRefused("latent, image: wanted one of them, got both: disconnect one")
    if latent is not None:
        if latent.get("noise_mask") is not None:
            raise JobRefused("latent: has a noise_mask, and this sampler changes whole frames: remove the mask")
        values = from_comfyui(latent, model)
        latents, height, width = values.shape[1:]
        return Init("latent", values, frames_in(latent, latents, model), height * model.scale, width * model.scale)
    if image is not None:
        pictures = frames_of("image", image)
        return Init("image", pictures, *pictures.shape[:3])
    return None


def frames_of(name: str, image: torch.Tensor) -> torch.Tensor:
    """Return an IMAGE's frames, (T, H, W, 3), without what is not colour; raise JobRefused that names the input."""
    if image.ndim != 4 or image.shape[-1] < 3 or 0 in image.shape:
        raise JobRefused(
            f"{name}: wanted pictures (T, H, W, 3), got {tuple(image.shape)}: use an IMAGE with red, green and blue"
        )
    check_finite(name, image)
    return image[..., :3]


def fit(init: Init, job: Job, model: ModelFolder) -> torch.Tensor:
    """Return what a job starts from, pictures scaled and cropped to its size; raise JobRefused if it is of another video."""
    name = init.kind
    latents = model.geometry.latents
    is_whole = latents(init.frames) == latents(job.frames) if name == "latent" else init.frames == job.frames
    if init.frames != 1 and not is_whole:
        raise JobRefused(
            f"{name}: wanted {job.frames} frames, as `frames` says, or 1 for all of them, got {init.frames}: "
            f"set frames to 0 to take those of {name}"
        )
    same_size = (init.width, init.height) == (job.width, job.height)
    if name == "latent" and not same_size:
        raise JobRefused(
            f"latent: wanted {job.width}x{job.height} pixels, as width and height say, got {init.width}x{init.height}: "
            "set width and height to 0 to take those of the latent"
        )
    return init.values if same_size else host.resize(init.values, height=job.height, width=job.width)
