"""One job on one rank, in five calls: encode, draw noise, denoise, decode, with a loaded model. Read this first.

Every rank runs the same lines on its own clip; only the patched layers know that there are others.
"""

import logging
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import torch
from diffusers import SchedulerMixin

from ..comm.agree import agree
from ..comm.group import Group
from ..comm.turns import Turns
from ..errors import Stopped
from ..layers.attention import Biases
from ..layers.heard import Heard
from ..layers.patch import patched
from ..layers.view import View
from ..maths import noise
from ..models import unet3d
from ..plan import span_of
from ..protocol import Job, NoiseKind, Phase, Tuning
from ..snapshot import Snapshot
from .decode import decode
from .denoise import as_batch, denoise
from .encode import encode_frames, encode_prompts
from .fit import fit
from .history import replay, tensors
from .load import Model, resident, settle
from .schedule import build, timesteps

logger = logging.getLogger(__name__)
Report = Callable[[Phase, int, int], None]  # phase, step, steps
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

    Raises Stopped, on all ranks, within a step after `stopping` says so, and PeerLost if another rank is gone.
    """
    view = View(group, span_of(job))
    clip = slice(view.clip.start, view.clip.stop)

    report("encode", 0, 1)
    settle(model, group.device, job.offload)
    at_work = partial(resident, device=group.device, offload=job.offload)
    scheduler = build(model.folder, job.scheduler)
    schedule = timesteps(scheduler, job, group.device)
    with at_work(model.text_encoder):
        heard = encode_prompts(model, job, view.clip)
    if blocks.resume:
        start = take_up(blocks, scheduler, schedule, view)
    else:
        init = None
        if blocks.init is not None:  # on all ranks, or on none
            with at_work(model.vae):
                init = encode_init(model, blocks, view.clip, report=report, stopping=stopping)
            if agree(init is None, group):
                raise Stopped("stopped while encoding")
        start = draw_start(job, init, blocks.latents_CTHW.shape, view=view, scheduler=scheduler, schedule=schedule)

    report("denoise", blocks.resume, len(schedule))
    latents = start
    run = sample(model, job, start, heard, view=view, scheduler=scheduler, schedule=schedule, begin=blocks.resume)
    with at_work(model.unet), closing(run):
        for step, latents in enumerate(run, start=blocks.resume + 1):
            blocks.latents_CTHW[:, clip] = latents[0].cpu()  # after each step, so that the host can show the video grow
            if step <= len(schedule):
                keep(blocks, step, view.clip, latents, scheduler)
                report("denoise", step, len(schedule))
            if agree(stopping(), group):  # and so no rank is a step ahead of what another has kept
                raise Stopped("stopped between two steps")

    if blocks.frames_THWC is not None:
        with at_work(model.vae):
            decode_clip(model, latents, blocks, view.clip, report=report, stopping=stopping)


def keep(blocks: Blocks, step: int, clip: range, latents: torch.Tensor, scheduler: SchedulerMixin) -> None:
    """Leave the clip, as it is after a step, in the snapshot."""
    if blocks.snapshot is not None:
        history = [None if part is None else part.movedim(0, 1)[None] for part in tensors(scheduler)]
        blocks.snapshot.write(step, clip, [latents, *history])


def take_up(blocks: Blocks, scheduler: SchedulerMixin, schedule: torch.Tensor, view: View) -> torch.Tensor:
    """Return the clip's latents, (1, C, F, H, W), as the snapshot has them, with the scheduler as it was then."""
    assert blocks.snapshot is not None
    latents, *history = (part.to(view.group.device) for part in blocks.snapshot.read(blocks.resume, view.clip))
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


def encode_init(
    model: Model, blocks: Blocks, clip: range, *, report: Report, stopping: Callable[[], bool]
) -> torch.Tensor | None:
    """Return the clip's latents of the init, (1, C, F, H, W), or None if it was asked to stop.

    Latents are taken as they are, frames encoded; one frame serves for all.
    """
    assert blocks.init is not None
    if blocks.init_is_latents:
        latents = blocks.init if blocks.init.shape[1] == 1 else blocks.init[:, clip.start : clip.stop]
        return latents[None].expand(-1, -1, len(clip), -1, -1)
    frames = blocks.init if len(blocks.init) == 1 else blocks.init[clip.start : clip.stop]
    encoded = []
    for latent in encode_frames(model, frames):
        encoded.append(latent)
        report("encode", len(encoded), len(frames))
        if stopping():
            return None
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


def sample(
    model: Model,
    job: Job,
    latents: torch.Tensor,
    heard: Heard,
    *,
    view: View,
    scheduler: SchedulerMixin,
    schedule: torch.Tensor,
    begin: int = 0,
) -> Generator[torch.Tensor, None, None]:
    """Yield the clip's latents after each step of the patched UNet, from `begin` on; with none left, once as they are."""
    if len(schedule) == begin:
        yield latents
        return
    fitted = fit(model, job, len(view.clip), view.group)
    view = replace(view, slices=fitted.slices)
    biases = Biases(view, job.scope.trained_frames)
    changes = unet3d.frame_changes(model.unet, view, biases, park=fitted.park, compiled=compiles(job.tuning, view.group))
    changes += unet3d.fps_changes(model.unet, job.fps)
    if job.tuning.reuse_every > 1:
        changes += unet3d.reuse_changes(model.unet, view.call)
    calls = [heard]
    if fitted.apart or view.group.size > 1:
        calls = [replace(heard, branches=range(branch, branch + 1)) for branch in heard.branches]
    if len(calls) > 1 and not fitted.apart:
        view.call.turns = Turns(view.group.device)
    with patched(changes):
        try:
            yield from denoise(model.unet, scheduler, latents, calls, job=job, timesteps=schedule, biases=biases, begin=begin)
        except GeneratorExit:  # a stop, of all ranks after the same step; after a fault nobody may wait for anybody
            view.call.drain()
            raise
    view.call.drain()


def compiles(tuning: Tuning, group: Group) -> bool:
    """Return whether spatial layers are to be compiled; say so if that was asked for in vain."""
    if tuning.compile and group.device.type == "cpu":
        logger.warning("compile: rank %d is on a CPU and runs without; it is for GPUs", group.rank)
    return tuning.compile and group.device.type != "cpu"
