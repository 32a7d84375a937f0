"""Fit a job into the memory that is free: how much a layer works on at once, branches together or apart, skips parked.

What was set by hand stands. None of it changes the video. Ranks may slice differently, but they make the same UNet calls.
"""

from dataclasses import dataclass

import torch

from ..comm.agree import agree
from ..comm.group import Group
from ..maths.slices import Slices, fitting
from ..plan import estimate_denoise
from ..protocol import Job
from .load import Model

HEADROOM = 0.9  # of what is free: allocators round up
AT = "before the first step"


@dataclass(frozen=True)
class Fit:
    """How a job runs on a rank."""

    slices: Slices
    apart: bool
    park: bool


def fit(model: Model, job: Job, frames: int, group: Group) -> Fit:
    """Return how a clip of `frames` frames fits this rank's device. Collective, and the same on all ranks but for slices."""
    tuning, free = job.tuning, free_bytes(group.device)
    budget = fitting(free)

    def too_big(*, apart: bool, park: bool) -> bool:
        if free is None:
            return False
        shape, scale = model.folder.unet_shape, model.folder.scale
        return estimate_denoise(shape, scale, job, frames, apart=apart, park=park) + budget > HEADROOM * free

    apart = job.guidance_scale > 1 and tuning.branches != "together"
    if tuning.branches == "auto":
        (apart,) = agree(apart and too_big(apart=False, park=tuning.park_skips == "always"), group=group, at=AT)
    park = tuning.park_skips == "always"
    if tuning.park_skips == "auto":
        (park,) = agree(too_big(apart=apart, park=False), group=group, at=AT)
    return Fit(Slices(budget, tuning.frames_at_once, tuning.pixels_at_once), apart, park)


def free_bytes(device: torch.device) -> int | None:
    """Return the free memory of a GPU, what torch holds in reserve included; None for a CPU."""
    if device.type == "cpu":
        return None
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + reserve
