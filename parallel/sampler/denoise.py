"""Denoise: the loop, as a generator that yields after each step. What happens between steps is its caller's business."""

from collections.abc import Iterator

import torch
from diffusers import SchedulerMixin, UNet3DConditionModel

from ..layers.attention import Biases
from ..maths import noise, scope
from ..protocol import Job


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

    `embeddings_BLD` may be one a video: layers/prompts.py gives each frame its own. Guidance above 1 doubles the batch.
    """
    guided = job.guidance_scale > 1
    for index, timestep in enumerate(timesteps):
        _set_biases(biases, job.scope, float(timestep), index / max(1, len(timesteps) - 1))
        x = scheduler.scale_model_input(torch.cat([latents_BCFHW] * 2) if guided else latents_BCFHW, timestep)
        with torch.inference_mode():
            guess = unet(x.to(unet.dtype), timestep, encoder_hidden_states=embeddings_BLD, return_dict=False)[0].float()
        if guided:
            negative, positive = guess.chunk(2)
            guess = negative + job.guidance_scale * (positive - negative)
        # Frames become the batch, as in diffusers' pipelines, so that each can draw its own noise.
        options = {}
        if scheduler.__class__.__name__ == "EulerAncestralDiscreteScheduler":
            options["generator"] = noise.generators(job.seed, clip, index + 1)
        stepped = scheduler.step(_as_batch(guess), timestep, _as_batch(latents_BCFHW), **options).prev_sample
        latents_BCFHW = stepped.float().movedim(0, 1)[None]
        yield latents_BCFHW


def _set_biases(biases: Biases, settings, timestep: float, done: float) -> None:
    phase = {"timestep": timestep, "done": done, "parting": settings.phase_timestep, "ramp": settings.ramp}
    biases.set(scope.phase_bias(settings.local_bias, **phase), scope.phase_bias(settings.global_bias, **phase))


def _as_batch(x_BCFHW: torch.Tensor) -> torch.Tensor:
    return x_BCFHW[0].movedim(1, 0)
