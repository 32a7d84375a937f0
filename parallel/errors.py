"""What can go wrong, as a tree.

VideoInfinityError
|-- JobRefused       wrong input, found before any rank works; also a ValueError
|-- Stopped          the caller asked to stop, and all ranks did
|-- RankFailed       a rank failed; carries the rank and its traceback
|   `-- RankLost     it is gone, stuck, or its device is: the others can go on without it
`-- PeerLost         on a rank: another one is out of reach; a consequence, never the cause
"""


class VideoInfinityError(Exception):
    """Anything that this pack raises on purpose."""

    # What prints an error puts its module first, here a path as long as the sentence; this one is left out.
    __module__ = "builtins"

    def __init_subclass__(cls) -> None:
        cls.__module__ = VideoInfinityError.__module__


class JobRefused(VideoInfinityError, ValueError):
    """The input is wrong. The message says what was wanted, what came and what to do."""


class Stopped(VideoInfinityError):
    """The job was stopped between two steps, on all ranks, because the caller asked for it."""


class RankFailed(VideoInfinityError):
    """A rank failed. `rank` is the one that failed first, None if nobody knows; `traceback` is its own, as text."""

    def __init__(self, message: str, *, rank: int | None, traceback: str = ""):
        super().__init__(message)
        self.rank = rank
        self.traceback = traceback


class RankLost(RankFailed):
    """A rank is gone or stuck, or its device is. What it did not finish, others can."""


class PeerLost(VideoInfinityError):
    """A collective broke because another rank is gone."""
