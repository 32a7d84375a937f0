"""Classifier-free guidance: which branches there are, which calls of the net they make, how those take turns, what comes of them.

Two branches need nothing of each other. A rank by itself runs both in one call. Where frames travel between ranks they are two
calls that take turns (turns.py): one computes while the other's frames are under way. Where memory is short they are two calls,
one after the other. The layers know of it the number of the call that is at work (call.py).
"""

from collections.abc import Callable
from functools import partial

import torch

from ..comm.group import Group
from .turns import InOrder, Turns

NEGATIVE, POSITIVE = 0, 1  # in diffusers' order


def branches(scale: float) -> range:
    """Return the branches that a guidance scale asks for: without guidance the positive one alone."""
    return range(NEGATIVE if scale > 1 else POSITIVE, POSITIVE + 1)


def combine(guesses_BCFHW: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the guess (1, C, F, H, W) that the branches' guesses make."""
    if len(guesses_BCFHW) == 1:
        return guesses_BCFHW
    negative, positive = guesses_BCFHW.chunk(2)
    return negative + scale * (positive - negative)


class Guidance:
    """The branches of a job as the calls of a step."""

    def __init__(self, scale: float, group: Group, *, apart: bool = False, joins: bool = True):
        """With `apart` one branch begins when the other has ended; what a job calls `together` is one call, or two in turns.

        Without `joins` a rank by itself makes a call of each branch, too: not every net makes of two at once, to the last bit, what
        it makes of each, and a net that was trained may enlarge that last bit from step to step.
        """
        self.scale = scale
        every = branches(scale)
        call_each = [range(branch, branch + 1) for branch in every]
        if apart or len(every) == 1 or (group.size == 1 and not joins):
            self.calls, self.turns = call_each, InOrder()
        elif group.size == 1:  # nothing travels, and nobody waits
            self.calls, self.turns = [every], InOrder()
        else:
            self.calls, self.turns = call_each, Turns(group.device)

    def guess(self, predict: Callable[[range], torch.Tensor]) -> torch.Tensor:
        """Return the guided guess (1, C, F, H, W); `predict` returns those of some branches, (B, C, F, H, W)."""
        guesses = self.turns.run([partial(predict, some) for some in self.calls])
        return combine(torch.cat(guesses), self.scale)
