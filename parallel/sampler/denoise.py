"""Denoise: the loop, as a generator that yields after each step. What happens between steps is its caller's business."""

from collections.abc import Iterator
from functools import partial

import torch
from diffusers import SchedulerMixin, UNet3DConditionModel

from ..layers.attention import Biases
from ..maths import noise, scope
from ..protocol import Job, Scope
from .schedule import is_stochastic, skipped_steps


def denoise(
    unet: UNet3DConditionModel,
    scheduler: SchedulerMixin,
    latents_BCFHW: torch.Tensor,
    embeddings_BLD: torch.Tensor,
    *,
    job: Job,
    timesteps: torch.Tensor,
    clip: range,
    biases: Biases,
) -> Iterator[torch.Tensor]:
    """Yield the clip's latents (1, C, F, H, W) after each step; float32 between steps whatever the UNet's type.

    `embeddings_BLD` may be one a video: layers/frames.py gives each frame its own. Guidance above 1 doubles the batch.
    """
    timesteps_cpu = timesteps.tolist()  # once, so that no step waits for the device
    guided, stochastic = job.guidance_scale > 1, is_stochastic(scheduler)
    for index, timestep in enumerate(timesteps):
        done = (skipped_steps(job) + index) / max(1, job.num_inference_steps - 1)
        set_biases(biases, job.scope, timesteps_cpu[index], done)
        x = scheduler.scale_model_input(torch.cat([latents_BCFHW] * 2) if guided else latents_BCFHW, timestep)
        with torch.inference_mode():
            guess = unet(x.to(unet.dtype), timestep, encoder_hidden_states=embeddings_BLD, return_dict=False)[0].float()
        if guided:
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


def as_batch(x_BCFHW: torch.Tensor) -> torch.Tensor:
    """Return the frames of a batch of one, (F, C, H, W)."""
    return x_BCFHW[0].movedim(1, 0)
