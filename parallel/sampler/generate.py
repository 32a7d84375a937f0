"""One job on one rank, in five calls: encode, draw noise, denoise, decode, with a loaded model. Read this first.

Every rank runs the same lines on its own clip; only the patched layers know that there are others.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..comm.agree import agree
from ..comm.group import Group
from ..errors import Stopped
from ..layers.attention import Biases
from ..layers.patch import patched
from ..layers.view import View
from ..maths import noise
from ..maths.scope import Span
from ..models import unet3d
from ..protocol import Job, Phase
from .decode import decode
from .denoise import denoise
from .encode import encode_frames, encode_prompts
from .load import Model, resident, settle
from .schedule import build, timesteps

Report = Callable[[Phase, int, int], None]  # phase, step, steps


@dataclass(frozen=True)
class Blocks:
    """The whole video in shared memory; a rank touches its clip only."""

    latents_CTHW: torch.Tensor
    frames_THWC: torch.Tensor | None = None
    init: torch.Tensor | None = None  # frames (T or 1, H, W, 3), or latents (C, T, H, W)


def generate(model: Model, job: Job, blocks: Blocks, group: Group, *, report: Report, stopping: Callable[[], bool]) -> None:
    """Make this rank's clip and leave it in the blocks; raise Stopped, on all ranks, when `stopping` says so."""
    span = Span(job.frames, job.scope.local_context, job.scope.global_frames, job.loop)
    view = View(group, span)
    clip = slice(view.clip.start, view.clip.stop)

    report("encode", 0, 1)
    place = (group.device, job.offload)
    settle(model, *place)
    scheduler = build(model.folder, job.scheduler)
    schedule = timesteps(scheduler, job, group.device)
    with resident(model.text_encoder, *place):
        embeddings = encode_prompts(model, job, view.clip)
    with resident(model.vae, *place):
        start = draw_start(model, job, blocks, view, scheduler, schedule)

    report("denoise", 0, len(schedule))
    latents = start
    with resident(model.unet, *place):
        run = sample(model, job, start, embeddings, view=view, scheduler=scheduler, schedule=schedule, report=report)
        for latents in run:
            if agree(stopping(), group):
                raise Stopped("stopped between two steps")
            blocks.latents_CTHW[:, clip] = latents[0].cpu()  # after each step, so that the host can show the video grow

    if blocks.frames_THWC is not None:
        report("decode", 0, len(view.clip))
        with resident(model.vae, *place):
            for done in decode(model, latents, blocks.frames_THWC[clip]):
                report("decode", done, len(view.clip))
                if stopping():  # nobody waits for anybody in this phase, so a rank may stop alone
                    raise Stopped("stopped while decoding")


def draw_start(model: Model, job: Job, blocks: Blocks, view: View, scheduler, schedule) -> torch.Tensor:
    """Return what the clip starts from, (1, C, F, H, W): noise, or the init noised to where the schedule begins.

    With no steps to run it is the init as it is, so that such a job only encodes, or only decodes.
    """
    shape = blocks.latents_CTHW.shape
    start = noise.draw_frames(job.seed, view.clip, (shape[0], *shape[2:])).to(view.group.device)
    if blocks.init is None:
        return start * scheduler.init_noise_sigma if len(schedule) else start
    init = encode_init(model, blocks.init, view.clip).to(start)
    return scheduler.add_noise(init, start, schedule[:1]) if len(schedule) else init


def encode_init(model: Model, init: torch.Tensor, clip: range) -> torch.Tensor:
    """Return the clip's latents of the init: latents as they are, frames encoded; one frame serves for all."""
    if init.shape[-1] != 3:
        return init[:, clip.start : clip.stop][None]
    if len(init) == 1:
        return encode_frames(model, init).repeat(1, 1, len(clip), 1, 1)
    return encode_frames(model, init[clip.start : clip.stop])


def sample(model: Model, job: Job, latents, embeddings_BFLD, *, view: View, scheduler, schedule, report: Report):
    """Yield the clip's latents after each step of the patched UNet; with no steps, once as they are."""
    if len(schedule) == 0:
        yield latents
        return
    biases = Biases(view, job.scope.trained_frames)
    changes = unet3d.frame_changes(model.unet, view, biases) + unet3d.fps_changes(model.unet, job.fps)
    changes += unet3d.prompt_changes(model.unet, embeddings_BFLD)
    with patched(changes):
        run = denoise(
            *(model.unet, scheduler, latents, embeddings_BFLD[:, 0]),
            job=job,
            timesteps=schedule,
            clip=view.clip,
            biases=biases,
        )
        for step, latents in enumerate(run, start=1):
            report("denoise", step, len(schedule))
            yield latents
