"""Sample: the UNet, changed for a clip and fitted to what memory is free, step after step."""

import logging
from collections.abc import Callable, Generator
from dataclasses import replace

import torch
from diffusers import SchedulerMixin

from ..comm.group import Group
from ..job.job import Job, Tuning
from ..layers.attention import Biases
from ..layers.compiled import Compiler
from ..layers.conditioning import Conditioning
from ..layers.guidance import Guidance
from ..layers.patch import patched
from ..layers.view import View
from ..models import unet3d
from .denoise import denoise
from .fit import fit
from .load import Model

logger = logging.getLogger(__name__)


def sample(
    model: Model,
    job: Job,
    latents: torch.Tensor,
    conditioning: Conditioning,
    *,
    view: View,
    scheduler: SchedulerMixin,
    schedule: torch.Tensor,
    begin: int = 0,
    notify: Callable[[str], None] = logger.warning,
) -> Generator[torch.Tensor, None, None]:
    """Yield the clip's latents after each step of the patched UNet, from `begin` on; with none left, once as they are.

    Who ends it early, on all ranks after the same step, drains `view.call.kept` of the messages that are under way.
    """
    if len(schedule) == begin:
        yield latents
        return
    fitted = fit(model, job, len(view.clip), view.group, notify=notify)
    view = replace(view, slices=fitted.slices)
    biases = Biases(view, job.scope.trained_frames)
    compiler = Compiler() if compiles(job.tuning, view.group, notify) else None
    changes = unet3d.frame_changes(model.unet, view, biases, offload_skips=fitted.offload_skips, compiler=compiler)
    changes += unet3d.fps_changes(model.unet, job.fps)
    if job.tuning.reuse_every > 1:
        changes += unet3d.reuse_changes(model.unet, view.call)
    guidance = Guidance(job.guidance_scale, view.group, apart=fitted.apart)
    view.call.turns = guidance.turns
    with patched(changes):
        steps = denoise(
            model.unet, scheduler, latents, conditioning, guidance, job=job, timesteps=schedule, biases=biases, begin=begin
        )
        yield next(steps)
        if compiler is not None:  # the first step runs all layers
            notify(compiler.account())
        yield from steps
    view.call.kept.drain()


def compiles(tuning: Tuning, group: Group, notify: Callable[[str], None]) -> bool:
    """Return whether spatial layers are to be compiled; say so if that was asked for in vain."""
    if tuning.compile and group.device.type == "cpu":
        notify("compile: the ranks are on CPUs and run without; it is for GPUs")
    return tuning.compile and group.device.type != "cpu"
