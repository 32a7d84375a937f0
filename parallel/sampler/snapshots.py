"""A run between two steps, put into a snapshot and taken up again, here or elsewhere.

It is the clip's latents, and what a multistep scheduler remembers. Its tensors are kept; its counters are not: they depend on
the number of steps alone, and come back by stepping a single number as often.
"""

import torch
from diffusers import SchedulerMixin
from einops import rearrange

from ..wire.snapshot import Snapshot
from .schedule import scale_input

HISTORY = ("model_outputs", "last_sample")  # of DPMSolverMultistepScheduler and UniPCMultistepScheduler


def save(snapshot: Snapshot, step: int, clip: range, latents_BCFHW: torch.Tensor, scheduler: SchedulerMixin) -> None:
    """Leave a clip, as it is after a step, in the snapshot."""
    history = [None if part is None else rearrange(part, "f c h w -> 1 c f h w") for part in tensors(scheduler)]
    snapshot.write_clip(step, clip, [latents_BCFHW, *history])


def resume(
    snapshot: Snapshot, step: int, clip: range, scheduler: SchedulerMixin, schedule: torch.Tensor, device: torch.device
) -> torch.Tensor:
    """Return a clip's latents, (1, C, F, H, W), as they were after a step, and bring the scheduler to where it was then."""
    latents, *history = (part.to(device) for part in snapshot.read_clip(step, clip))
    replay(scheduler, schedule, step, [rearrange(part, "1 c f h w -> f c h w") for part in history])
    return latents


def tensors(scheduler: SchedulerMixin) -> list[torch.Tensor | None]:
    """Return what a scheduler remembers, (F, C, H, W) each, in a fixed order; None where there is nothing yet."""
    found: list[torch.Tensor | None] = []
    for name in HISTORY:
        value = getattr(scheduler, name, None)
        if hasattr(scheduler, name):
            found += value if isinstance(value, list) else [value]
    return found


def replay(scheduler: SchedulerMixin, schedule: torch.Tensor, steps: int, history_FCHW: list[torch.Tensor]) -> None:
    """Bring a scheduler that was just set up to where it is after `steps` of a schedule, with what it remembered then."""
    number = torch.zeros(1, 1, 1, 1, device=schedule.device)
    for timestep in schedule[:steps]:
        scale_input(scheduler, number, timestep)
        number = scheduler.step(number, timestep, number).prev_sample
    remembered = iter(history_FCHW)
    for name in HISTORY:
        value = getattr(scheduler, name, None)
        if isinstance(value, list):
            setattr(scheduler, name, [None if old is None else new for old, new in zip(value, remembered)])
        elif hasattr(scheduler, name):
            new = next(remembered)
            setattr(scheduler, name, None if value is None else new)
