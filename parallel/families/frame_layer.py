"""A layer that exchanges frames between ranks, as far as formulas know it: a family lists its net's, traffic.py adds them up."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FrameLayer:
    """How many numbers a frame sends, whether moments of a group norm travel along, and what the rank that gets it then does."""

    kind: str  # "convolution" or "attention"
    numbers: int
    with_moments: bool
    flop: int = 0  # to make keys and values of one frame that came
