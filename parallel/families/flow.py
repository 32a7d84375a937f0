"""A flow-matching schedule by formula: what the host says of a run before any rank has a scheduler."""

LEAST = 1e-3  # noise of the last of the 1000 timesteps that a net is trained on


def noise_levels(scheduler: str, steps: int, shift: float) -> list[float]:
    """Return the share of noise, from about 1 down, that each step of one of diffusers' classes begins at."""
    first, last, spans = {
        "FlowMatchEulerDiscreteScheduler": (1.0, shifted(LEAST, shift), steps - 1),
        "UniPCMultistepScheduler": (1.0, LEAST, steps),
        "DPMSolverMultistepScheduler": (1.0 - LEAST, 0.0, steps),
    }[scheduler]
    even = [first + (last - first) * step / max(1, spans) for step in range(steps)]
    return [shifted(level, shift) for level in even]


def shifted(level: float, shift: float) -> float:
    """Return a share of noise moved up: with a shift above 1 more of the steps are at high noise."""
    return shift * level / (1 + (shift - 1) * level)
