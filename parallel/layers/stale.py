"""Stale context: after some exact steps a layer uses the frames and moments that the others' clips had some steps earlier.

The idea of DistriFusion (arXiv 2402.19481), there for patches of one image. Nothing waits, and what was projected once is not
again. A clip's own frames and moments are always new. Unlike exact steps it makes the video depend, slightly, on where it is cut.

Here is what a step does (Mode), which step does what (`kept_steps`, `mode`), and what is kept between steps (Kept). The sampler
says the mode of each step (call.py), exchanges act by it (exchange.py).
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..comm.fetch import Pending


class Mode(Enum):
    """What every exchange of a step does."""

    EXACT = "send, and use what comes"
    KEEP = "send, use what comes, and keep it for the stale steps that follow"
    STALE = "send nothing, and use what is kept"
    RENEW = "use what is kept, and send what the stale steps after this one use"

    @property
    def keeps(self) -> bool:
        """Whether what is sent on this step is kept."""
        return self in (Mode.KEEP, Mode.RENEW)

    @property
    def is_stale(self) -> bool:
        """Whether this step uses what was sent on an earlier one."""
        return self in (Mode.STALE, Mode.RENEW)


def kept_steps(
    steps: int, *, begin: int, after: int | None, each: int, runs_all_layers: Callable[[int], bool] = lambda step: True
) -> list[int]:
    """Return the steps (from 0) whose messages are kept: the last of `after` exact ones, then one in `each` steps or more.

    On such a step all layers run, or some would have nothing to use. The first step of a run that goes on after `begin` steps
    has nothing to use, and is exact. What comes on the very last step nobody would use. None are kept where `after` is None.
    """
    if after is None:
        return []
    last_exact = max(after - 1, begin)
    kept: list[int] = []
    for step in range(last_exact, steps - 1):
        is_due = not kept or step - kept[-1] >= each
        if is_due and runs_all_layers(step):
            kept.append(step)
    return kept


def mode(step: int, kept: list[int]) -> Mode:
    """Return what a step does when those in `kept` keep what is sent."""
    if not kept or step < kept[0]:
        return Mode.EXACT
    if step == kept[0]:
        return Mode.KEEP
    return Mode.RENEW if step in kept else Mode.STALE


@dataclass
class Message:
    """What was sent on a step that keeps it."""

    pending: Pending
    made: dict[Hashable, Any] = field(default_factory=dict)  # by stale steps, of the frames that came


class Kept:
    """The messages that stale steps use: one for each exchange and each UNet call of a step."""

    def __init__(self) -> None:
        self.messages: dict[Hashable, Message] = {}

    def drain(self) -> None:
        """Wait for what is under way, so that no message outlives its job. Collective."""
        for message in self.messages.values():
            message.pending.wait()
        self.messages.clear()
