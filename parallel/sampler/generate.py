"""One job on one rank, with a loaded model, in four calls: encode, find_start, sample, decode_clip. Read this first.

Every rank runs the same lines on its own clip; only the patched layers know that there are others.
"""

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import torch
from diffusers import SchedulerMixin

from ..comm.agree import agree
from ..comm.group import Group
from ..families.geometry import Geometry
from ..job.errors import Stopped
from ..job.job import Job
from ..layers.conditioning import Conditioning
from ..layers.view import View
from ..models.model import Model
from ..plan import frames_of, latent_span
from ..wire.messages import Phase
from ..wire.snapshot import Snapshot
from . import snapshots
from .between_steps import BetweenSteps
from .decode import decode_clip, with_context
from .encode import encode_prompts, tell, texts_of, tokenize
from .encode_images import Caller, encode_keyframes, kept_frames, look
from .finite import is_finite, overflowed
from .init import draw_start, encode_init
from .interrupt import interruptible
from .load import choose_offload, resident, settle
from .pins import Pins
from .sample import OnDevice, sample, stages
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
    keyframes: torch.Tensor | None = None  # pictures (all keyframes', H, W, 3)
    embeddings: torch.Tensor | None = None  # of the job's texts, (texts, L, D)
    picture_tokens: torch.Tensor | None = None  # of some keyframes, (F, L, D)
    snapshot: Snapshot | None = None
    resume: int = 0
    most_held: int | None = None  # frames of a clip that wait for the host to take them; None: it takes none


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
    scheduler = build(model.folder, job.scheduler, job.shift)
    schedule = timesteps(scheduler, job, group.device)
    left = stages(model, schedule, blocks.resume)
    nets = [model.nets[stage.net] for stage in left]
    if left:
        model.adapt(job.loras, device=group.device, notify=notify)
    encoders = (model.text_encoder, model.image_encoder) if left else ()
    offload = choose_offload(model, job, view.clip, group.device)
    settle(model, group.device, offload, at_work=(*nets, *encoders, model.vae))
    on_device = partial(resident, model=model, device=group.device, offload=offload)
    encoded = encode(
        model, job, blocks, view, samples=bool(left), on_device=on_device, report=report, stopping=stopping, notify=notify
    )
    latents = find_start(job, encoded.init, blocks, geometry=geometry, view=view, scheduler=scheduler, schedule=schedule)

    report("denoise", blocks.resume, len(schedule))
    between = BetweenSteps(
        view, scheduler, len(schedule), model.dtype, blocks.latents_CTHW, blocks.snapshot,
        report=lambda step: report("denoise", step, len(schedule)), stopping=stopping,
    )  # fmt: skip
    run = sample(
        model, job, latents, encoded.conditioning, view=view, scheduler=scheduler, schedule=schedule, begin=blocks.resume,
        pins=encoded.pins, on_device=on_device, notify=notify,
    )  # fmt: skip
    with closing(run):
        for step, latents in enumerate(run, start=blocks.resume + 1):
            between.after(step, latents)

    if blocks.frames_THWC is not None:
        latents = with_context(latents, view, model.decode_reach)
        with on_device(model.vae), interruptible(model.vae, stopping):
            decode_clip(
                model,
                latents,
                blocks.frames_THWC,
                view,
                kept=kept_frames(model, job, blocks.keyframes),
                snapshot=blocks.snapshot,
                most_held=blocks.most_held,
                report=partial(report, "decode"),
                stopping=stopping,
            )


@dataclass(frozen=True)
class Encoded:
    """What a clip is made from."""

    conditioning: Conditioning | None = None  # none where there are no steps to sample
    init: torch.Tensor | None = None  # latents (1, C, F, H, W)
    pins: Pins = field(default_factory=Pins)


def encode(
    model: Model,
    job: Job,
    blocks: Blocks,
    view: View,
    *,
    samples: bool,
    on_device: OnDevice,
    report: Report,
    stopping: Callable[[], bool],
    notify: Notify,
) -> Encoded:
    """Return what the clip is made from: prompts and keyframes, if there are steps to sample, and the init.

    All ranks have encoded then. Raises, on all ranks, Stopped if one is to stop, and Overflowed if numbers of one are not finite.
    """

    def report_prompts(done: int, of: int) -> None:
        report("encode", done, of + 1)  # the last one comes when there is nothing left to encode

    conditioning, init, pins, stopped = None, None, Pins(), False
    try:
        if samples:
            with on_device(model.text_encoder):
                conditioning = encode_prompts(
                    model, job, view.clip, given=blocks.embeddings, group=view.group, notify=notify, report=report_prompts,
                    waiting=partial(report, "encode", 1, 1), stopping=stopping,
                )  # fmt: skip
            pins = pin(model, job, blocks, view, on_device=on_device, report=partial(report, "encode"), stopping=stopping)
        elif blocks.embeddings is None and model.tokenizer is not None:
            tell(model, job, {text: tokenize(model, text) for text in texts_of(job)}, notify)
        if blocks.init is None or blocks.resume:
            report("encode", 1, 1)
        else:
            with on_device(model.vae):
                init = encode_init(
                    model,
                    blocks.init,
                    view,
                    is_latents=blocks.init_is_latents,
                    report=partial(report, "encode"),
                    stopping=stopping,
                )
    except Stopped:  # this rank alone: others may not know yet
        stopped = True
    prompts_overflow = conditioning is not None and not is_finite(conditioning.prompts_SLD)
    init_overflow = init is not None and not is_finite(init)
    flags = agree(
        stopped or stopping(), prompts_overflow, init_overflow, not pins.finite, group=view.group, at="after encoding"
    )
    stopped, prompts_overflow, init_overflow, pins_overflow = flags
    if stopped:
        raise Stopped("stopped while encoding")
    if prompts_overflow:
        raise overflowed(model.dtype, "while the text encoder read the prompts")
    if init_overflow:
        raise overflowed(model.dtype, "while the VAE encoded the init")
    if pins_overflow:
        raise overflowed(model.dtype, "while the VAE encoded the keyframes")
    return Encoded(conditioning, init, pins)


def pin(
    model: Model,
    job: Job,
    blocks: Blocks,
    view: View,
    *,
    on_device: OnDevice,
    report: Callable[[int, int], None],
    stopping: Callable[[], bool],
) -> Pins:
    """Return what holds the clip's keyframes. Collective, where the model looks at pictures; raises Stopped."""
    pixels = blocks.keyframes
    if pixels is None:
        return Pins()
    tokens = None if blocks.picture_tokens is None else blocks.picture_tokens.to(view.group.device, model.dtype)
    if tokens is None:
        with on_device(model.image_encoder):
            tokens = look(model, pixels, view.group, waiting=partial(report, 1, 1), stopping=stopping)
    with on_device(model.vae):
        caller = Caller(report, stopping)
        return encode_keyframes(model, job, pixels, view, tokens=tokens, caller=caller)


def find_start(
    job: Job,
    init: torch.Tensor | None,
    blocks: Blocks,
    *,
    geometry: Geometry,
    view: View,
    scheduler: SchedulerMixin,
    schedule: torch.Tensor,
) -> torch.Tensor:
    """Return the clip's latents before the first step that is left, (1, C, F, H, W): from the snapshot, or drawn."""
    if not blocks.resume:
        shape = blocks.latents_CTHW.shape
        return draw_start(job, init, shape, geometry=geometry, view=view, scheduler=scheduler, schedule=schedule)
    assert blocks.snapshot is not None
    return snapshots.resume(blocks.snapshot, blocks.resume, view.clip, scheduler, schedule, view.group.device)
