"""What a clip starts from: noise by number, or an init that is encoded and noised."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from diffusers import SchedulerMixin

from ..families.geometry import Geometry
from ..job.errors import Stopped
from ..job.job import Job, NoiseKind
from ..layers.view import View
from ..maths import noise
from ..models.model import Model
from .interrupt import interruptible
from .schedule import add_noise


def encode_init(
    model: Model,
    init: torch.Tensor,
    view: View,
    *,
    is_latents: bool,
    report: Callable[[int, int], None],
    stopping: Callable[[], bool],
) -> torch.Tensor:
    """Return the clip's latents of the init, (1, C, F, H, W); raise Stopped, on this rank alone, if it was asked to stop.

    Latents (C, T or 1, H, W) are taken as they are, frames (T or 1, H, W, 3) encoded; one serves for all. `report` gets how many
    latents are done.
    """
    if is_latents:
        report(1, 1)
        latents = init if init.shape[1] == 1 else init[:, view.clip.start : view.clip.stop]
        return latents[None].expand(-1, -1, len(view.clip), -1, -1)
    encoded, done, wanted = [], 0, view.clip
    with interruptible(model.vae, stopping):
        for latents in _encode(model, init, view):
            encoded.append(latents)
            done += latents.shape[2]
            report(done, len(wanted))
            if stopping():
                raise Stopped("stopped while encoding")
    return torch.cat(encoded, dim=2).expand(-1, -1, len(wanted), -1, -1)


def _encode(model: Model, init_FHWC: torch.Tensor, view: View) -> Iterator[torch.Tensor]:
    """Yield the clip's latents of frames; of one picture, where a latent holds one, that one latent."""
    geometry = model.folder.geometry
    one_for_all = len(init_FHWC) == 1 and geometry.frames_per_latent == 1
    return model.encode(partial(_frames, init_FHWC), range(1) if one_for_all else view.clip)


def _frames(init_FHWC: torch.Tensor, wanted: range) -> torch.Tensor:
    """Return some frames of an init; one picture is all of them, and the last one those past the end."""
    if len(init_FHWC) == 1:
        return init_FHWC.expand(len(wanted), -1, -1, -1)
    there = init_FHWC[wanted.start : wanted.stop]
    past_the_end = len(wanted) - len(there)
    return torch.cat([there, there[-1:].expand(past_the_end, -1, -1, -1)]) if past_the_end else there


def draw_start(
    job: Job,
    init: torch.Tensor | None,
    shape_CTHW: torch.Size,
    *,
    geometry: Geometry,
    view: View,
    scheduler: SchedulerMixin,
    schedule: torch.Tensor,
) -> torch.Tensor:
    """Return what the clip starts from, (1, C, F, H, W): noise, or the init noised to where the schedule begins.

    With no steps to run it is the init as it is, so that such a job only encodes, or only decodes.
    """
    start = draw_noise(job, view.clip, shape_CTHW, geometry=geometry).to(view.group.device)
    if init is not None:
        return add_noise(scheduler, init.to(start), start, schedule)
    return start * getattr(scheduler, "init_noise_sigma", 1.0) if len(schedule) else start


def draw_noise(job: Job, latents: Sequence[int], shape_CTHW: tuple[int, ...], *, geometry: Geometry) -> torch.Tensor:
    """Return the noise that some latents of a video start from, (1, C, F, H, W)."""
    channels, _, height, width = shape_CTHW
    window, stride = noise_window(job, geometry.frames_per_latent)
    kinds: dict[NoiseKind, Callable[..., torch.Tensor]] = {
        "independent": noise.draw_frames,
        "shuffled": partial(noise.draw_shuffled, window=window, stride=stride),
        "mixed": partial(noise.draw_mixed, share=job.noise.share),
    }
    return kinds[job.noise.kind](job.seed, latents, (channels, height, width))


def noise_window(job: Job, frames_per_latent: int) -> tuple[int, int]:
    """Return the window and stride of shuffled noise in latents: people write frames. The window is a multiple of the stride."""
    stride = -(-job.noise.stride // frames_per_latent)
    runs = max(1, round(job.noise.window / (frames_per_latent * stride)))
    return runs * stride, stride
