"""Denoise: the loop, as a generator that yields after each step. What happens between steps is its caller's business."""

from collections.abc import Iterator
from functools import partial

import torch
from diffusers import SchedulerMixin, UNet3DConditionModel
from einops import rearrange

from ..job.job import Job, Scope, Tuning
from ..layers import stale
from ..layers.attention import Biases
from ..layers.call import Call
from ..layers.conditioning import Conditioning
from ..layers.guidance import Guidance
from ..layers.reuse import reuses
from ..maths import noise, scope
from .schedule import is_stochastic, skipped_steps


def denoise(
    unet: UNet3DConditionModel,
    scheduler: SchedulerMixin,
    latents_BCFHW: torch.Tensor,
    conditioning: Conditioning,
    guidance: Guidance,
    *,
    job: Job,
    timesteps: torch.Tensor,
    biases: Biases,
    begin: int = 0,
) -> Iterator[torch.Tensor]:
    """Yield the clip's latents (1, C, F, H, W) after each step; float32 between steps whatever the UNet's type.

    A run that goes on after `begin` steps has the scheduler as it was then.
    """
    timesteps_cpu = timesteps.tolist()  # at once: to read one in the middle of a step would wait for the device
    is_drawing, clip = is_stochastic(scheduler), biases.view.clip
    keeping = keeping_steps(job.tuning, len(timesteps), begin=begin)
    for index, timestep in enumerate(timesteps[begin:], start=begin):
        set_biases(biases, job.scope, timesteps_cpu[index], share_done(job, index))
        set_call(biases.view.call, job.tuning, index, keeping, begin=begin)
        x = scheduler.scale_model_input(latents_BCFHW, timestep).to(unet.dtype)
        guess = guidance.guess(partial(call_unet, unet, x, timestep, conditioning))
        take_step = scheduler.step
        if is_drawing:
            take_step = partial(take_step, generator=noise.generators(job.seed, clip, index + 1))
        # Frames become the batch, as in diffusers' pipelines, so that each can draw its own noise.
        stepped = take_step(as_batch(guess), timestep, as_batch(latents_BCFHW)).prev_sample
        latents_BCFHW = rearrange(stepped.float(), "f c h w -> 1 c f h w")
        yield latents_BCFHW


def as_batch(x_BCFHW: torch.Tensor) -> torch.Tensor:
    """Return the frames of a batch of one, (F, C, H, W)."""
    return rearrange(x_BCFHW, "1 c f h w -> f c h w")


def share_done(job: Job, index: int) -> float:
    """Return which share, 0 to 1, of the whole schedule is over at a step (from 0) of the part that is run."""
    return (skipped_steps(job) + index) / max(1, job.num_inference_steps - 1)


def set_biases(biases: Biases, settings: Scope, timestep: float, done: float) -> None:
    """Set the biases of a step at a timestep, when a share `done` of the whole schedule is over."""
    phase = partial(scope.phase_bias, timestep=timestep, done=done, parting=settings.phase_timestep, ramp=settings.ramp)
    biases.set(phase(settings.local_bias), phase(settings.global_bias))


def call_unet(
    unet: UNet3DConditionModel, x: torch.Tensor, timestep: torch.Tensor, conditioning: Conditioning, branches: range
) -> torch.Tensor:
    """Return a UNet's output for some branches, (B, C, F, H, W) float32."""
    batch = x.expand(len(branches), -1, -1, -1, -1)
    with torch.inference_mode():
        return unet(batch, timestep, encoder_hidden_states=conditioning.of(branches), return_dict=False)[0].float()


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
