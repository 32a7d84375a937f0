"""Denoise: the loop, as a generator that yields after each step. What happens between steps is its caller's business."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from diffusers import SchedulerMixin
from einops import rearrange

from ..job.job import Job, Tuning
from ..layers import stale
from ..layers.call import Call
from ..layers.conditioning import Images
from ..layers.reuse import reuses
from ..layers.view import View
from ..maths import noise, scope
from . import schedule
from .pins import Pins

# Of noisy latents (1, C, F, H, W), a timestep or each latent's, and images: guided.
Guess = Callable[[torch.Tensor, torch.Tensor, Images | None], torch.Tensor]
NO_PINS = Pins()


def denoise(
    guess: Guess,
    scheduler: SchedulerMixin,
    latents_BCFHW: torch.Tensor,
    *,
    job: Job,
    timesteps: torch.Tensor,
    steps: range,
    view: View,
    pins: Pins = NO_PINS,
) -> Iterator[torch.Tensor]:
    """Yield the clip's latents (1, C, F, H, W) after each of some steps of a schedule; float32 whatever the net's type.

    A run that does not begin with the first step has the scheduler as it is then, and latents as they were put by then.
    """
    timesteps_cpu = timesteps.tolist()  # at once: to read one in the middle of a step would wait for the device
    is_drawing = schedule.is_stochastic(scheduler)
    keeping = keeping_steps(job.tuning, steps.stop, begin=steps.start)
    if steps.start == 0:
        latents_BCFHW = pins.put(latents_BCFHW, job.skipped_steps, scheduler, timesteps)
    for index in steps:
        timestep = timesteps[index]
        set_call(view.call, job.tuning, index, keeping, begin=steps.start)
        view.call.step = job.skipped_steps + index
        view.call.biases = step_biases(job, index, timesteps_cpu[index])
        shown, times = pins.show(schedule.scale_input(scheduler, latents_BCFHW, timestep), timestep, view.call.step)
        guessed = pins.correct(guess(shown, times, pins.images(view.call.step)), view.call.step)
        take_step = scheduler.step
        if is_drawing:
            take_step = partial(take_step, generator=noise.generators(job.seed, view.clip, index + 1))
        # Frames become the batch, as in diffusers' pipelines, so that each can draw its own noise.
        stepped = take_step(as_batch(guessed), timestep, as_batch(latents_BCFHW)).prev_sample
        latents_BCFHW = rearrange(stepped.float(), "f c h w -> 1 c f h w")
        latents_BCFHW = pins.put(latents_BCFHW, view.call.step + 1, scheduler, timesteps[index + 1 :])
        yield latents_BCFHW


def as_batch(x_BCFHW: torch.Tensor) -> torch.Tensor:
    """Return the frames of a batch of one, (F, C, H, W)."""
    return rearrange(x_BCFHW, "1 c f h w -> f c h w")


def share_done(job: Job, index: int) -> float:
    """Return which share, 0 to 1, of the whole schedule is over at a step (from 0) of the part that is run."""
    return (job.skipped_steps + index) / max(1, job.num_inference_steps - 1)


def step_biases(job: Job, step: int, timestep: float) -> tuple[float, float]:
    """Return the biases on local and on global keys at a step (from 0), which is at a timestep."""
    settings = job.scope
    done = share_done(job, step)
    phase = partial(scope.phase_bias, timestep=timestep, done=done, parting=settings.phase_timestep, ramp=settings.ramp)
    return phase(settings.local_bias), phase(settings.global_bias)


def set_call(call: Call, tuning: Tuning, step: int, keeping: list[int], *, begin: int) -> None:
    """Say what a step (from 0) does: exact, or with stale context; all layers, or the outermost blocks alone."""
    call.mode = stale.mode(step, keeping)
    call.outermost_only = reuses(step, begin=begin, every=tuning.reuse_every)


def keeping_steps(tuning: Tuning, steps: int, *, begin: int) -> list[int]:
    """Return the steps (from 0) of a run that keep what they send: the last exact one, then one in `stale_for` steps or more.

    There are `stale_after` exact steps, or more: on a step that keeps all layers run, or some would have nothing to use, so
    one that reuses is passed over. The first step of a run that goes on after `begin` steps has nothing to use, and is exact.
    """
    if tuning.stale_after is None:
        return []
    earliest = max(tuning.stale_after - 1, begin)
    keeping: list[int] = []
    for step in range(earliest, steps - 1):  # what comes on the very last step nobody would use
        is_due = not keeping or step - keeping[-1] >= tuning.stale_for
        if is_due and not reuses(step, begin=begin, every=tuning.reuse_every):
            keeping.append(step)
    return keeping
