"""One job on one rank, with a loaded model, in four calls: encode, find_start, sample, decode_clip. Read this first.

Every rank runs the same lines on its own clip; only the patched layers know that there are others.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import SchedulerMixin

from ..comm.agree import agree
from ..comm.group import Group
from ..job.errors import Stopped
from ..job.job import Job, NoiseKind
from ..layers.conditioning import Conditioning
from ..layers.view import View
from ..maths import noise
from ..plan import frames_of, latent_span
from ..wire.messages import Phase
from ..wire.snapshot import Snapshot
from . import snapshots
from .between_steps import BetweenSteps
from .decode import decode
from .encode import encode_frames, encode_prompts
from .finite import is_finite, overflowed
from .interrupt import interruptible
from .load import Model, resident, settle
from .sample import sample
from .schedule import build, timesteps

logger = logging.getLogger(__name__)
Report = Callable[[Phase, int, int], None]  # phase, step, steps
OnDevice = Callable[[torch.nn.Module], AbstractContextManager[None]]  # has a part of the model on the device
Notify = Callable[[str], None]  # what the user should know, in a sentence; ranks may all say it


@dataclass(frozen=True)
class Blocks:
    """The whole video in shared memory; a rank touches its clip only. With `resume` the snapshot holds so many steps."""

    latents_CTHW: torch.Tensor
    frames_THWC: torch.Tensor | None = None
    init: torch.Tensor | None = None  # frames (T or 1, H, W, 3), or latents (C, T or 1, H, W)
    init_is_latents: bool = False
    snapshot: Snapshot | None = None
    resume: int = 0


def generate(
    model: Model,
    job: Job,
    blocks: Blocks,
    group: Group,
    *,
    report: Report,
    stopping: Callable[[], bool],
    notify: Notify = logger.warning,
) -> None:
    """Make this rank's clip and leave it in the blocks; `notify` gets what the user should know.

    Raises Stopped within a step after `stopping` says so, on all ranks until they decode; Overflowed if numbers are not finite,
    which are not kept; PeerLost if another rank is gone, and OutOfStep, on all ranks, if they exchanged unequally often.
    """
    geometry = model.folder.geometry
    view = View(group, latent_span(job, geometry), frames_of=lambda latents: frames_of(latents, job, geometry))
    report("encode", 0, 1)
    settle(model, group.device, job.offload)
    on_device = partial(resident, device=group.device, offload=job.offload)
    conditioning, init = encode(model, job, blocks, view, on_device=on_device, report=report, stopping=stopping, notify=notify)

    scheduler = build(model.folder, job.scheduler)
    schedule = timesteps(scheduler, job, group.device)
    latents = find_start(job, init, blocks, view=view, scheduler=scheduler, schedule=schedule)

    report("denoise", blocks.resume, len(schedule))
    between = BetweenSteps(
        view, scheduler, len(schedule), model.dtype, blocks.latents_CTHW, blocks.snapshot,
        report=lambda step: report("denoise", step, len(schedule)), stopping=stopping,
    )  # fmt: skip
    run = sample(
        model, job, latents, conditioning, view=view, scheduler=scheduler, schedule=schedule, begin=blocks.resume, notify=notify
    )
    has_steps = len(schedule) > blocks.resume  # else `run` yields once, and needs no UNet
    with on_device(model.unet) if has_steps else nullcontext(), closing(run):
        for step, latents in enumerate(run, start=blocks.resume + 1):
            between.after(step, latents)

    if blocks.frames_THWC is not None:
        with on_device(model.vae), interruptible(model.vae, stopping):
            decode_clip(model, latents, blocks, view.frames, report=report, stopping=stopping)


def encode(
    model: Model,
    job: Job,
    blocks: Blocks,
    view: View,
    *,
    on_device: OnDevice,
    report: Report,
    stopping: Callable[[], bool],
    notify: Notify,
) -> tuple[Conditioning, torch.Tensor | None]:
    """Return the conditioning of the clip and its latents of the init, (1, C, F, H, W), when all ranks have encoded.

    Raises, on all ranks, Stopped if one is to stop, and Overflowed if numbers of one are not finite.
    """

    def report_prompts(done: int, of: int) -> None:
        report("encode", done, of + 1)  # the last one comes when there is nothing left to encode

    conditioning, init, stopped = None, None, False
    try:
        with on_device(model.text_encoder):
            conditioning = encode_prompts(model, job, view.clip, notify=notify, report=report_prompts, stopping=stopping)
        if blocks.init is None or blocks.resume:
            report("encode", 1, 1)
        else:
            with on_device(model.vae):
                init = encode_init(model, blocks, view, report=report, stopping=stopping)
    except Stopped:  # this rank alone: others may not know yet
        stopped = True
    prompts_overflow = conditioning is not None and not is_finite(conditioning.prompts_SLD)
    init_overflow = init is not None and not is_finite(init)
    flags = agree(stopped or stopping(), prompts_overflow, init_overflow, group=view.group, at="after encoding")
    stopped, prompts_overflow, init_overflow = flags
    if stopped:
        raise Stopped("stopped while encoding")
    if prompts_overflow:
        raise overflowed(model.dtype, "while the text encoder read the prompts")
    if init_overflow:
        raise overflowed(model.dtype, "while the VAE encoded the init")
    assert conditioning is not None, "only who is to stop leaves without"
    return conditioning, init


def decode_clip(
    model: Model, latents: torch.Tensor, blocks: Blocks, frames: range, *, report: Report, stopping: Callable[[], bool]
) -> None:
    """Decode the frames of the clip that no rank has decoded before."""
    assert blocks.frames_THWC is not None
    missing = list(frames) if blocks.snapshot is None else blocks.snapshot.missing(frames)
    done = len(frames) - len(missing)
    report("decode", done, len(frames))
    out_FHWC = blocks.frames_THWC[frames.start : frames.stop]
    for places in decode(model, latents, out_FHWC, [frame - frames.start for frame in missing]):
        if blocks.snapshot is not None:
            blocks.snapshot.mark_decoded([frames.start + place for place in places])
        done += len(places)
        report("decode", done, len(frames))
        if stopping():  # nobody waits for anybody in this phase, so a rank may stop alone
            raise Stopped("stopped while decoding")


def encode_init(model: Model, blocks: Blocks, view: View, *, report: Report, stopping: Callable[[], bool]) -> torch.Tensor:
    """Return the clip's latents of the init, (1, C, F, H, W); raise Stopped, on this rank alone, if it was asked to stop.

    Latents are taken as they are, frames encoded; one serves for all.
    """
    assert blocks.init is not None
    if blocks.init_is_latents:
        report("encode", 1, 1)
        latents = _own(blocks.init, 1, view.clip)[None]
    else:
        latents = _encode_frames(model, _own(blocks.init, 0, view.frames), report=report, stopping=stopping)
    return latents.expand(-1, -1, len(view.clip), -1, -1)


def _own(init: torch.Tensor, dim: int, part: range) -> torch.Tensor:
    """Return the part of an init along a dimension, or all of it if it is one picture for all."""
    return init if init.shape[dim] == 1 else init.narrow(dim, part.start, len(part))


def _encode_frames(model: Model, frames_FHWC: torch.Tensor, *, report: Report, stopping: Callable[[], bool]) -> torch.Tensor:
    encoded = []
    with interruptible(model.vae, stopping):
        for latent in encode_frames(model, frames_FHWC):
            encoded.append(latent)
            report("encode", len(encoded), len(frames_FHWC))
            if stopping():
                raise Stopped("stopped while encoding")
    return torch.cat(encoded, dim=2)


def find_start(
    job: Job, init: torch.Tensor | None, blocks: Blocks, *, view: View, scheduler: SchedulerMixin, schedule: torch.Tensor
) -> torch.Tensor:
    """Return the clip's latents before the first step that is left, (1, C, F, H, W): from the snapshot, or drawn."""
    if not blocks.resume:
        return draw_start(job, init, blocks.latents_CTHW.shape, view=view, scheduler=scheduler, schedule=schedule)
    assert blocks.snapshot is not None
    return snapshots.resume(blocks.snapshot, blocks.resume, view.clip, scheduler, schedule, view.group.device)


def draw_start(
    job: Job,
    init: torch.Tensor | None,
    shape_CTHW: torch.Size,
    *,
    view: View,
    scheduler: SchedulerMixin,
    schedule: torch.Tensor,
) -> torch.Tensor:
    """Return what the clip starts from, (1, C, F, H, W): noise, or the init noised to where the schedule begins.

    With no steps to run it is the init as it is, so that such a job only encodes, or only decodes.
    """
    channels, _, height, width = shape_CTHW
    kinds: dict[NoiseKind, Callable[..., torch.Tensor]] = {
        "independent": noise.draw_frames,
        "shuffled": partial(noise.draw_shuffled, window=job.noise.window, stride=job.noise.stride),
        "mixed": partial(noise.draw_mixed, share=job.noise.share),
    }
    start = kinds[job.noise.kind](job.seed, view.clip, (channels, height, width)).to(view.group.device)
    if init is None:
        return start * scheduler.init_noise_sigma if len(schedule) else start
    init = init.to(start)
    return scheduler.add_noise(init, start, schedule[:1]) if len(schedule) else init
