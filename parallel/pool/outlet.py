"""What empties the block of frames while ranks fill it: frames go into a movie, and their memory back to the system."""

from itertools import takewhile

from ..wire.blocks import Block
from ..wire.snapshot import Snapshot
from .movie import RUN, Movie


class Outlet:
    """Moves frames from their block into a movie, each run of it in order, whichever rank is further."""

    def __init__(self, frames: Block, snapshot: Snapshot, movie: Movie):
        self._frames, self._snapshot, self._movie = frames, snapshot, movie
        self._taken: dict[int, int] = {}  # of each run that has begun: how many of its frames

    def drain(self) -> None:
        """Move what is decoded by now, as far as the runs can take it; what is decoded meanwhile waits for the next call."""
        waiting = set(self._snapshot.waiting())
        for run in sorted({number // RUN for number in waiting}):
            begin = run * RUN
            first = begin + self._taken.get(run, 0)
            ready = list(takewhile(waiting.__contains__, range(first, begin + RUN)))
            for number in ready:
                self._movie.write(number, self._frames.tensor[number])
            self._snapshot.mark_taken(ready)
            self._taken[run] = first + len(ready) - begin
            self._frames.release(range(begin, first + len(ready)))
