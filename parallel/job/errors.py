"""What can go wrong, as a tree.

VideoInfinityError
|-- JobRefused       wrong input, found before any rank works; also a ValueError
|-- Stopped          the caller asked to stop, and all ranks did, or were ended
|-- RankFailed       a rank failed; carries the rank, its traceback, and the latents if they were finished
|   |-- RankLost     it is gone, stuck, or its device is: the others can go on without it
|   `-- Overflowed   the job's numbers did not fit its type; no rank's fault
|-- PeerLost         on a rank: another one is out of reach; a consequence, never the cause
`-- OutOfStep        on all ranks: they did not make the same exchanges; ours to mend
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class VideoInfinityError(Exception):
    """Anything that this pack raises on purpose."""

    # What prints an error puts its module first, here a path as long as the sentence; this one is left out.
    __module__ = "builtins"

    def __init_subclass__(cls) -> None:
        cls.__module__ = VideoInfinityError.__module__


class JobRefused(VideoInfinityError, ValueError):
    """The input is wrong. The message says what was wanted, what came and what to do."""


class Stopped(VideoInfinityError):
    """The job was stopped, on all ranks, because the caller asked for it. On a rank: this one is to stop, or all are."""


class RankFailed(VideoInfinityError):
    """A rank failed. `rank` is the one that failed first, None if nobody knows; `traceback` is its own, as text.

    `reason` is what ended it, without its name, if that may well end any other, too. `latents` (1, C, T, h, w) are there if all
    steps were done: they took the time, and can be decoded again.
    """

    latents: "torch.Tensor | None" = None

    def __init__(self, message: str, *, rank: int | None, traceback: str = "", reason: str = ""):
        super().__init__(message)
        self.rank = rank
        self.traceback = traceback
        self.reason = reason


class RankLost(RankFailed):
    """A rank is gone or stuck, or its device is. What it did not finish, others can."""


class Overflowed(RankFailed):
    """Numbers of the job were not finite in the type that it ran in. The message says where, and which type would do."""


class PeerLost(VideoInfinityError):
    """A collective broke because another rank is gone."""


class OutOfStep(VideoInfinityError):
    """The ranks did not make the same number of exchanges: what one of them got may have been meant for another layer."""
