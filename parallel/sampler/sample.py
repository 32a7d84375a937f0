"""The net at work: a job's steps, each by the net whose turn it is, patched and fitted into memory."""

import logging
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import torch
from diffusers import SchedulerMixin

from ..comm.group import Group
from ..job.job import Job, Tuning
from ..layers.compiled import Compiler
from ..layers.conditioning import Conditioning, Images
from ..layers.guidance import Guidance
from ..layers.patch import patched
from ..layers.view import View
from ..models.model import Model
from .denoise import NO_PINS, denoise
from .fit import fit
from .pins import Pins

logger = logging.getLogger(__name__)
OnDevice = Callable[[torch.nn.Module | None], AbstractContextManager[None]]  # has a part of the model on the device


def where_it_is(part: torch.nn.Module | None) -> AbstractContextManager[None]:
    """Leave a part of the model on the device that it is on."""
    return nullcontext()


@dataclass(frozen=True)
class Stage:
    """Consecutive steps, from 0, that one net runs, under one guidance scale."""

    net: int
    steps: range


def stages(model: Model, schedule: torch.Tensor, begin: int) -> list[Stage]:
    """Return the stages of what is left of a schedule after `begin` steps."""
    nets = [model.folder.net_at(timestep) for timestep in schedule.tolist()]
    found = []
    for net, steps in groupby(range(begin, len(nets)), key=nets.__getitem__):
        each = list(steps)
        found.append(Stage(net, range(each[0], each[-1] + 1)))
    return found


def sample(
    model: Model,
    job: Job,
    latents: torch.Tensor,
    conditioning: Conditioning | None,
    *,
    view: View,
    scheduler: SchedulerMixin,
    schedule: torch.Tensor,
    begin: int = 0,
    pins: Pins = NO_PINS,
    on_device: OnDevice = where_it_is,
    notify: Callable[[str], None] = logger.warning,
) -> Generator[torch.Tensor, None, None]:
    """Yield the clip's latents after each step of the patched nets, from `begin` on; with none left, once as they are.

    Who ends it early, on all ranks after the same step, drains `view.call.kept` of the messages that are under way.
    """
    if len(schedule) == begin:
        yield latents
        return
    assert conditioning is not None, "there are steps to sample"
    for stage in stages(model, schedule, begin):
        net = model.nets[stage.net]
        with on_device(net):
            fitted = fit(model, job, len(view.clip), view.group, notify=notify)
            fitted_view = replace(view, slices=fitted.slices)
            compiler = Compiler() if compiles(job.tuning, view.group, notify) else None
            guidance = Guidance(job.guidance_of(stage.net), view.group, apart=fitted.apart, joins=model.folder.joins_branches)
            view.call.turns = guidance.turns
            guess = partial(guided, model, net, conditioning, guidance)
            changes = model.changes(net, job, fitted_view, offload_skips=fitted.offload_skips, compiler=compiler)
            with patched(changes):
                steps = denoise(
                    guess, scheduler, latents, job=job, timesteps=schedule, steps=stage.steps, view=fitted_view, pins=pins
                )
                latents = next(steps)
                yield latents
                if compiler is not None:  # the first step runs all layers
                    notify(compiler.account())
                for latents in steps:
                    yield latents
        view.call.kept.drain()


def guided(
    model: Model,
    net: torch.nn.Module,
    conditioning: Conditioning,
    guidance: Guidance,
    x_BCFHW: torch.Tensor,
    timestep: torch.Tensor,
    images: Images | None,
) -> torch.Tensor:
    """Return a net's guess, (1, C, F, H, W) float32, of the branches that guidance asks for."""

    def of_branches(branches: range) -> torch.Tensor:
        batch = x_BCFHW.to(model.dtype).expand(len(branches), -1, -1, -1, -1)
        with torch.inference_mode():
            return model.guess(net, batch, timestep, conditioning.of(branches), images).float()

    return guidance.guess(of_branches)


def compiles(tuning: Tuning, group: Group, notify: Callable[[str], None]) -> bool:
    """Return whether spatial layers are to be compiled; say so if that was asked for in vain."""
    if tuning.compile and group.device.type == "cpu":
        notify("compile: the ranks are on CPUs and run without; it is for GPUs")
    return tuning.compile and group.device.type != "cpu"
