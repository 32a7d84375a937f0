"""Schedulers: diffusers' own classes over the model's own configuration."""

import json

import diffusers
import torch
from diffusers import SchedulerMixin

from ..families.table import ModelFolder
from ..job.job import Job


def build(folder: ModelFolder, name: str) -> SchedulerMixin:
    """Return a scheduler from the model's configuration; `model` keeps the class that it names."""
    config = json.loads((folder.scheduler / "scheduler_config.json").read_text())
    kind = folder.scheduler_class if name == "model" else folder.schedulers[name]
    assert kind in folder.schedulers.values(), "refused at the door"
    return getattr(diffusers, kind).from_config(config)


def is_stochastic(scheduler: SchedulerMixin) -> bool:
    """Say whether a scheduler draws noise in its steps: Euler ancestral, and DPM++ configured as a stochastic equation."""
    kind = str(scheduler.config.get("algorithm_type", ""))
    return isinstance(scheduler, diffusers.EulerAncestralDiscreteScheduler) or kind.startswith("sde")


def skipped_steps(job: Job) -> int:
    """Return how many steps at the beginning of the schedule `denoise` leaves out."""
    return job.num_inference_steps - max(1, round(job.num_inference_steps * job.denoise))


def timesteps(scheduler: SchedulerMixin, job: Job, device: torch.device) -> torch.Tensor:
    """Set the scheduler up and return the timesteps to run, a vector, from the noisiest of at most 1000 down.

    Integers, or floats for Euler. With `denoise` below 1 only the last share of them; none for a job of no steps.
    """
    if job.num_inference_steps == 0:
        return torch.empty(0)
    scheduler.set_timesteps(job.num_inference_steps, device=device)
    first = skipped_steps(job) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):  # DDIM keeps no index
        scheduler.set_begin_index(first)
    return scheduler.timesteps[first:]
