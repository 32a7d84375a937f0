"""Fit a job into the memory that is free: how much a layer works on at once, branches together or apart, skips offloaded.

What was set by hand stands. None of it changes the video. Ranks may slice differently, but they make the same calls.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..comm.agree import agree
from ..comm.group import Group
from ..job.job import Job
from ..maths.slices import Slices, fitting
from ..models.model import Model
from ..plan import image_bytes
from ..wire.blocks import free_bytes as free_host_bytes

HEADROOM = 0.9  # of what is free: allocators round up
AT = "before the first step"


@dataclass(frozen=True)
class Fit:
    """How a job runs on a rank."""

    slices: Slices
    apart: bool  # guidance's branches, one at a time
    offload_skips: bool


def fit(model: Model, job: Job, frames: int, group: Group, *, notify: Callable[[str], None]) -> Fit:
    """Return how a clip of `frames` frames fits this rank's device. Collective, and the same on all ranks but for slices.

    Skips are only offloaded where the host's memory has room for those of all ranks; if it has not, `notify` gets a sentence.
    """
    tuning, free = job.tuning, free_bytes(group.device)
    budget = fitting(free)

    def too_big(*, apart: bool, offload: bool) -> bool:
        if free is None:
            return False
        return model.folder.denoise_bytes(job, frames, apart=apart, offload_skips=offload) + budget > HEADROOM * free

    apart = job.branches > 1 and tuning.branches != "together"
    if tuning.branches == "auto":
        (apart,) = agree(apart and too_big(apart=False, offload=tuning.park_skips == "always"), group=group, at=AT)
    offload = tuning.park_skips == "always"
    if tuning.park_skips == "auto":
        (offload,) = agree(too_big(apart=apart, offload=False), group=group, at=AT)
    if offload:
        wanted = group.size * model.folder.skip_bytes(job, frames, apart=apart)
        room = max(0, free_host_bytes() - image_bytes(job))  # its block is reserved, but not yet filled
        (tight,) = agree(wanted > HEADROOM * room, group=group, at=AT)
        if tight:
            notify(_no_room(wanted, room, offloads=tuning.park_skips == "always"))
        offload = not tight or tuning.park_skips == "always"
    return Fit(Slices(budget, tuning.frames_at_once, tuning.pixels_at_once), apart, offload)


def _no_room(wanted: int, room: int, *, offloads: bool) -> str:
    sizes = f"{wanted / 2**30:.1f} GiB of host memory for skip tensors that wait there, {room / 2**30:.1f} GiB are free"
    outcome = "they are parked all the same" if offloads else "they stay on the devices, whose memory may not do"
    return f"park_skips: wanted {sizes}, so that {outcome}: free host memory, or ask for fewer or smaller frames"


def free_bytes(device: torch.device) -> int | None:
    """Return the free memory of a GPU, what torch holds in reserve included; None for a CPU."""
    if device.type == "cpu":
        return None
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + reserve
