"""One job on one rank, in four calls: encode, draw noise, denoise, decode, with a loaded model. Read this first.

Every rank runs the same lines on its own clip; only the patched layers know that there are others.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import SchedulerMixin

from ..comm.agree import agree
from ..comm.group import Group
from ..job.errors import Stopped
from ..job.job import Job, NoiseKind
from ..layers.heard import Heard
from ..layers.view import View
from ..maths import noise
from ..plan import latent_span
from ..wire.messages import Phase
from ..wire.snapshot import Snapshot
from .decode import decode
from .denoise import as_batch
from .encode import encode_frames, encode_prompts
from .finite import is_finite, overflowed
from .history import replay, tensors
from .interrupt import interruptible
from .load import Model, resident, settle
from .sample import sample
from .schedule import build, timesteps

logger = logging.getLogger(__name__)
Report = Callable[[Phase, int, int], None]  # phase, step, steps
AtWork = Callable[[torch.nn.Module], AbstractContextManager[None]]  # has a part of the model on the device
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
    """Make this rank's clip and leave it in the blocks; `notify` hears what the user should know.

    Raises Stopped within a step after `stopping` says so, on all ranks until they decode; Overflowed if numbers are not finite,
    which are not kept; PeerLost if another rank is gone, and OutOfStep, on all ranks, if they exchanged unequally often.
    """
    view = View(group, latent_span(job, model.folder.geometry))
    clip = slice(view.clip.start, view.clip.stop)

    report("encode", 0, 1)
    settle(model, group.device, job.offload)
    at_work = partial(resident, device=group.device, offload=job.offload)
    scheduler = build(model.folder, job.scheduler)
    schedule = timesteps(scheduler, job, group.device)
    heard, init = encode(model, job, blocks, view, at_work=at_work, report=report, stopping=stopping, notify=notify)
    if blocks.resume:
        start = take_up(blocks, scheduler, schedule, view)
    else:
        start = draw_start(job, init, blocks.latents_CTHW.shape, view=view, scheduler=scheduler, schedule=schedule)

    report("denoise", blocks.resume, len(schedule))
    latents = start
    run = sample(
        model, job, start, heard, view=view, scheduler=scheduler, schedule=schedule, begin=blocks.resume, notify=notify
    )
    with at_work(model.unet), closing(run):
        for step, latents in enumerate(run, start=blocks.resume + 1):
            shown_CFHW = latents[0].cpu()  # after each step, so that the host can show the video grow
            finite = is_finite(shown_CFHW)
            if finite:
                blocks.latents_CTHW[:, clip] = shown_CFHW
            if finite and step <= len(schedule):
                keep(blocks, step, view.clip, latents, scheduler)
                report("denoise", step, len(schedule))
            at = f"at step {step} of {len(schedule)}"
            # All ranks alike, and so no rank is a step ahead of what another has kept.
            stopped, overflow = agree(stopping(), not finite, group=group, at=at)
            if overflow or stopped:
                view.call.drain()  # as all ranks do now; after a fault nobody may wait for anybody
                raise overflowed(model.dtype, at) if overflow else Stopped("stopped between two steps")

    if blocks.frames_THWC is not None:
        with at_work(model.vae), interruptible(model.vae, stopping):
            decode_clip(model, latents, blocks, view.clip, report=report, stopping=stopping)


def encode(
    model: Model,
    job: Job,
    blocks: Blocks,
    view: View,
    *,
    at_work: AtWork,
    report: Report,
    stopping: Callable[[], bool],
    notify: Notify,
) -> tuple[Heard, torch.Tensor | None]:
    """Return what the clip's frames hear, and the clip's latents of the init, (1, C, F, H, W), when all ranks have encoded.

    Raises, on all ranks, Stopped if one is to stop, and Overflowed if numbers of one are not finite.
    """

    def report_prompts(done: int, of: int) -> None:
        report("encode", done, of + 1)  # the last one comes when there is nothing left to encode

    heard, init, stopped = None, None, False
    try:
        with at_work(model.text_encoder):
            heard = encode_prompts(model, job, view.clip, notify=notify, report=report_prompts, stopping=stopping)
        if blocks.init is None or blocks.resume:
            report("encode", 1, 1)
        else:
            with at_work(model.vae):
                init = encode_init(model, blocks, view.clip, report=report, stopping=stopping)
    except Stopped:  # this rank alone: others may be yet to hear of it
        stopped = True
    prompts_overflow = heard is not None and not is_finite(heard.prompts_SLD)
    init_overflow = init is not None and not is_finite(init)
    flags = agree(stopped or stopping(), prompts_overflow, init_overflow, group=view.group, at="after encoding")
    stopped, prompts_overflow, init_overflow = flags
    if stopped:
        raise Stopped("stopped while encoding")
    if prompts_overflow:
        raise overflowed(model.dtype, "while the text encoder read the prompts")
    if init_overflow:
        raise overflowed(model.dtype, "while the VAE encoded the init")
    assert heard is not None, "only who is to stop leaves without"
    return heard, init


def keep(blocks: Blocks, step: int, clip: range, latents: torch.Tensor, scheduler: SchedulerMixin) -> None:
    """Leave the clip, as it is after a step, in the snapshot."""
    if blocks.snapshot is not None:
        history = [None if part is None else part.movedim(0, 1)[None] for part in tensors(scheduler)]
        blocks.snapshot.write_clip(step, clip, [latents, *history])


def take_up(blocks: Blocks, scheduler: SchedulerMixin, schedule: torch.Tensor, view: View) -> torch.Tensor:
    """Return the clip's latents, (1, C, F, H, W), as the snapshot has them, with the scheduler as it was then."""
    assert blocks.snapshot is not None
    latents, *history = (part.to(view.group.device) for part in blocks.snapshot.read_clip(blocks.resume, view.clip))
    replay(scheduler, schedule, blocks.resume, [as_batch(part) for part in history])
    return latents


def decode_clip(
    model: Model, latents: torch.Tensor, blocks: Blocks, clip: range, *, report: Report, stopping: Callable[[], bool]
) -> None:
    """Decode the clip's frames that no rank has decoded before."""
    assert blocks.frames_THWC is not None
    missing = list(clip) if blocks.snapshot is None else blocks.snapshot.missing(clip)
    done = len(clip) - len(missing)
    report("decode", done, len(clip))
    out_FHWC = blocks.frames_THWC[clip.start : clip.stop]
    for places in decode(model, latents, out_FHWC, [frame - clip.start for frame in missing]):
        if blocks.snapshot is not None:
            blocks.snapshot.mark_decoded([clip.start + place for place in places])
        done += len(places)
        report("decode", done, len(clip))
        if stopping():  # nobody waits for anybody in this phase, so a rank may stop alone
            raise Stopped("stopped while decoding")


def encode_init(model: Model, blocks: Blocks, clip: range, *, report: Report, stopping: Callable[[], bool]) -> torch.Tensor:
    """Return the clip's latents of the init, (1, C, F, H, W); raise Stopped, on this rank alone, if it was asked to stop.

    Latents are taken as they are, frames encoded; one frame serves for all.
    """
    assert blocks.init is not None
    if blocks.init_is_latents:
        report("encode", 1, 1)
        latents = blocks.init if blocks.init.shape[1] == 1 else blocks.init[:, clip.start : clip.stop]
        return latents[None].expand(-1, -1, len(clip), -1, -1)
    frames = blocks.init if len(blocks.init) == 1 else blocks.init[clip.start : clip.stop]
    encoded = []
    with interruptible(model.vae, stopping):
        for latent in encode_frames(model, frames):
            encoded.append(latent)
            report("encode", len(encoded), len(frames))
            if stopping():
                raise Stopped("stopped while encoding")
    latents = torch.cat(encoded, dim=2)
    return latents.expand(-1, -1, len(clip), -1, -1)


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
