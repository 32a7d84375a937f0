"""Denoise: the loop, as a generator that yields after each step. What happens between steps is its caller's business."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from diffusers import SchedulerMixin, UNet3DConditionModel

from ..job.job import Job, Scope, Tuning
from ..layers.attention import Biases
from ..layers.exchange import Call
from ..layers.heard import Heard
from ..maths import noise, scope
from .schedule import is_stochastic, skipped_steps


def denoise(
    unet: UNet3DConditionModel,
    scheduler: SchedulerMixin,
    latents_BCFHW: torch.Tensor,
    calls: Sequence[Heard],
    *,
    job: Job,
    timesteps: torch.Tensor,
    biases: Biases,
    begin: int = 0,
) -> Iterator[torch.Tensor]:
    """Yield the clip's latents (1, C, F, H, W) after each step; float32 between steps whatever the UNet's type.

    `calls` is what each UNet call of a step hears: guidance's branches in one call, or in two. A run that goes on after
    `begin` steps has the scheduler as it was then.
    """
    timesteps_cpu = timesteps.tolist()  # at once: to read one in the middle of a step would wait for the device
    stochastic, clip, call = is_stochastic(scheduler), biases.view.clip, biases.view.call
    for index, timestep in enumerate(timesteps[begin:], start=begin):
        done = (skipped_steps(job) + index) / max(1, job.num_inference_steps - 1)
        set_biases(biases, job.scope, timesteps_cpu[index], done)
        set_call(call, job.tuning, index, len(timesteps), begin=begin)
        x = scheduler.scale_model_input(latents_BCFHW, timestep).to(unet.dtype)
        guess = torch.cat(run_calls(call, [partial(call_unet, unet, x, timestep, heard) for heard in calls]))
        if len(guess) == 2:
            negative, positive = guess.chunk(2)
            guess = negative + job.guidance_scale * (positive - negative)
        # Frames become the batch, as in diffusers' pipelines, so that each can draw its own noise.
        draw = partial(scheduler.step, generator=noise.generators(job.seed, clip, index + 1)) if stochastic else scheduler.step
        stepped = draw(as_batch(guess), timestep, as_batch(latents_BCFHW)).prev_sample
        latents_BCFHW = stepped.float().movedim(0, 1)[None]
        yield latents_BCFHW


def set_biases(biases: Biases, settings: Scope, timestep: float, done: float) -> None:
    """Set the biases of a step at a timestep, when a share `done` of the whole schedule is over."""
    phase = partial(scope.phase_bias, timestep=timestep, done=done, parting=settings.phase_timestep, ramp=settings.ramp)
    biases.set(phase(settings.local_bias), phase(settings.global_bias))


def call_unet(unet: UNet3DConditionModel, x: torch.Tensor, timestep: torch.Tensor, heard: Heard) -> torch.Tensor:
    """Return a UNet's output for the branches that hear, (B, C, F, H, W) float32."""
    batch = x.expand(len(heard.branches), -1, -1, -1, -1)
    with torch.inference_mode():
        return unet(batch, timestep, encoder_hidden_states=heard, return_dict=False)[0].float()


def run_calls(call: Call, works: list[Callable[[], torch.Tensor]]) -> list[torch.Tensor]:
    """Return what each UNet call of a step returns: in turns if the job says so, else one after the other."""

    def numbered(branch: int) -> torch.Tensor:
        call.branch = branch
        return works[branch]()

    if call.turns is None:
        return [numbered(branch) for branch in range(len(works))]
    return call.turns.run([partial(numbered, branch) for branch in range(len(works))])


def set_call(call: Call, tuning: Tuning, index: int, steps: int, *, begin: int = 0) -> None:
    """Say what step `index` (from 0) of a run does: exact, or with stale context; all layers, or the outermost.

    The first step of a run that goes on from a snapshot has nothing to reuse: it is exact, and runs all layers. What is kept
    for stale steps is kept on a step that runs all layers, the first that is due.
    """
    kept = kept_steps(tuning, steps, begin=begin)
    call.keep = index in kept
    call.stale = bool(kept) and index > kept[0]
    call.reuse = reuses(tuning, index, begin=begin)


def reuses(tuning: Tuning, index: int, *, begin: int) -> bool:
    """Say whether a step runs the outermost layers only."""
    return index != begin and index % tuning.reuse_every != 0


def kept_steps(tuning: Tuning, steps: int, *, begin: int) -> list[int]:
    """Return the steps of which all layers keep what comes, for the stale steps that follow."""
    exact = steps if tuning.stale_after is None else max(tuning.stale_after, begin + 1)
    found: list[int] = []
    for step in range(exact - 1, steps - 1):
        if not reuses(tuning, step, begin=begin) and (not found or step - found[-1] >= tuning.stale_for):
            found.append(step)
    return found


def as_batch(x_BCFHW: torch.Tensor) -> torch.Tensor:
    """Return the frames of a batch of one, (F, C, H, W)."""
    return x_BCFHW[0].movedim(1, 0)
