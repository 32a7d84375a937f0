"""Stale context: after some exact steps a layer uses the frames and moments that the others' clips had some steps earlier.

The idea of DistriFusion (arXiv 2402.19481), there for patches of one image. Nothing waits, and what was projected once is not
again. A clip's own frames and moments are always new. Unlike exact steps it makes the video depend, slightly, on where it is cut.

Here is what a step does (Mode) and what is kept between steps (Kept). The sampler chooses the steps that keep what they send
(sampler/denoise.py) and says the mode of each step (call.py); exchanges act by it (exchange.py).
"""

from collections.abc import Hashable
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


def mode(step: int, keeping: list[int]) -> Mode:
    """Return what a step does when those in `keeping`, ascending, keep what they send: all before the first are exact."""
    if not keeping or step < keeping[0]:
        return Mode.EXACT
    if step == keeping[0]:
        return Mode.KEEP
    return Mode.RENEW if step in keeping else Mode.STALE


@dataclass
class KeptMessage:
    """What was sent on a step that keeps it."""

    pending: Pending
    made: dict[Hashable, Any] = field(default_factory=dict)  # of the frames that came, by the first stale step that used them


class Kept:
    """The messages that stale steps use: one for each exchange and each call of a step."""

    def __init__(self) -> None:
        self.messages: dict[Hashable, KeptMessage] = {}

    def drain(self) -> None:
        """Wait for what is under way, so that no message outlives its job. Collective."""
        for message in self.messages.values():
            message.pending.wait()
        self.messages.clear()
