"""What can go wrong, as a tree.

VideoInfinityError
|-- JobRefused       wrong input, found before any rank works; also a ValueError
|-- Stopped          the caller asked to stop, and all ranks did
`-- RankFailed       a rank ended a job or itself; carries the rank and its traceback
    `-- PeerLost     a rank could not reach another one: a consequence, never the cause
"""


class VideoInfinityError(Exception):
    """Anything that this pack raises on purpose."""


class JobRefused(VideoInfinityError, ValueError):
    """The input is wrong. The message says what was wanted, what came and what to do."""


class Stopped(VideoInfinityError):
    """The job was stopped between two steps, on all ranks, because the caller asked for it."""


class RankFailed(VideoInfinityError):
    """A rank failed. `rank` is the one that failed first, `traceback` is its own, as text."""

    def __init__(self, message: str, *, rank: int, traceback: str = ""):
        super().__init__(message)
        self.rank = rank
        self.traceback = traceback

    def __str__(self) -> str:
        return "\n".join(part for part in (super().__str__(), self.traceback) if part)


class PeerLost(VideoInfinityError):
    """A collective broke because another rank is gone."""
