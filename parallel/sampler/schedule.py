"""Schedulers: diffusers' own classes over the model's own configuration."""

import json

import diffusers
import torch
from diffusers import SchedulerMixin

from ..families.table import ModelFolder
from ..job.job import Job


def build(folder: ModelFolder, name: str, shift: float | None = None) -> SchedulerMixin:
    """Return a scheduler from the model's configuration; `model` keeps the class that it names."""
    config = json.loads((folder.scheduler / "scheduler_config.json").read_text())
    kind = folder.scheduler_class if name == "model" else folder.schedulers[name]
    assert kind in folder.schedulers.values(), "refused at the door"
    return getattr(diffusers, kind).from_config({**config, **folder.scheduler_settings(kind, config, shift)})


def is_stochastic(scheduler: SchedulerMixin) -> bool:
    """Say whether a scheduler draws noise in its steps: Euler ancestral, and DPM++ configured as a stochastic equation."""
    kind = str(scheduler.config.get("algorithm_type", ""))
    return isinstance(scheduler, diffusers.EulerAncestralDiscreteScheduler) or kind.startswith("sde")


def scale_input(scheduler: SchedulerMixin, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """Return latents as a net takes them at a timestep: flow matching's Euler leaves them as they are, and has no such method."""
    scale = getattr(scheduler, "scale_model_input", None)
    return latents if scale is None else scale(latents, timestep)


def add_noise(scheduler: SchedulerMixin, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """Return latents noised to where a schedule begins, or is left to run; with no timesteps as they are."""
    if not len(timesteps):
        return latents
    if hasattr(scheduler, "scale_noise"):  # of flow matching's Euler
        return scheduler.scale_noise(latents, timesteps[:1], noise)
    return scheduler.add_noise(latents, noise, timesteps[:1])


def timesteps(scheduler: SchedulerMixin, job: Job, device: torch.device) -> torch.Tensor:
    """Set the scheduler up and return the timesteps to run, a vector, from the noisiest of at most 1000 down.

    Integers, or floats for Euler. With `denoise` below 1 only the last share of them; none for a job of no steps.
    """
    if job.num_inference_steps == 0:
        return torch.empty(0)
    scheduler.set_timesteps(job.num_inference_steps, device=device)
    first = job.skipped_steps * scheduler.order
    if hasattr(scheduler, "set_begin_index"):  # DDIM keeps no index
        scheduler.set_begin_index(first)
    return scheduler.timesteps[first:]
