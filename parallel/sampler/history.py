"""What a multistep scheduler remembers between steps, taken out and put back, so that a run can go on elsewhere.

Its tensors are kept in a snapshot. Its counters are not: they depend on the number of steps alone, and come back by
stepping a single number as often.
"""

import torch
from diffusers import SchedulerMixin

HISTORY = ("model_outputs", "last_sample")  # of DPMSolverMultistepScheduler and UniPCMultistepScheduler


def tensors(scheduler: SchedulerMixin) -> list[torch.Tensor | None]:
    """Return what a scheduler remembers, (F, C, H, W) each, in a fixed order; None where there is nothing yet."""
    found: list[torch.Tensor | None] = []
    for name in HISTORY:
        value = getattr(scheduler, name, None)
        if hasattr(scheduler, name):
            found += value if isinstance(value, list) else [value]
    return found


def replay(scheduler: SchedulerMixin, schedule: torch.Tensor, steps: int, kept_FCHW: list[torch.Tensor]) -> None:
    """Bring a scheduler that was just set up to where it is after `steps` of a schedule, with what it remembered then."""
    number = torch.zeros(1, 1, 1, 1, device=schedule.device)
    for timestep in schedule[:steps]:
        scheduler.scale_model_input(number, timestep)
        number = scheduler.step(number, timestep, number).prev_sample
    kept = iter(kept_FCHW)
    for name in HISTORY:
        value = getattr(scheduler, name, None)
        if isinstance(value, list):
            setattr(scheduler, name, [None if old is None else new for old, new in zip(value, kept)])
        elif hasattr(scheduler, name):
            new = next(kept)
            setattr(scheduler, name, None if value is None else new)
