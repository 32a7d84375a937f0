"""A flow-matching schedule by formula: what the host says of a run before any rank has a scheduler."""

LEAST = 1e-3  # noise of the last of the 1000 timesteps that a net is trained on


def noise_levels(steps: int, shift: float, *, ends_low: bool) -> list[float]:
    """Return the share of noise, from 1 down, that each step begins at.

    With `ends_low`, as flow matching's Euler has it, the last step begins at hardly any noise; the multistep schedulers end a step earlier.
    """
    least = shifted(LEAST, shift) if ends_low else LEAST
    spans = steps - 1 if ends_low else steps
    even = [1 - (1 - least) * step / max(1, spans) for step in range(steps)]
    return [shifted(level, shift) for level in even]


def shifted(level: float, shift: float) -> float:
    """Return a share of noise moved up: with a shift above 1 more of the steps are at high noise."""
    return shift * level / (1 + (shift - 1) * level)
