"""Listen to all ranks at once: hand their steps on, pass a wish to stop down, and name the one that failed first."""

import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from .. import wire
from ..errors import RankFailed, Stopped
from ..protocol import Done, Failed, Message, Ready, Step, Stop
from .ranks import Ranks

POLL_SECONDS = 0.05  # how often the caller's wish to stop is asked for
CAUSE_SECONDS = 2.0  # after a rank has lost its peers: how long to wait for word from the one that failed first
Last = TypeVar("Last", Ready, Done)


def listen(
    ranks: Ranks,
    kind: type[Last],
    *,
    number: int,
    should_stop: Callable[[], bool],
    on_step: Callable[[Step], None] = lambda step: None,
) -> Iterator[Last]:
    """Yield the one message of a kind that each rank sends; messages of jobs other than `number` are dropped.

    Raises RankFailed when a rank fails, and Stopped when the caller asks to stop before the ranks are ready. A wish to
    stop a job is passed down, and its end awaited.
    """
    waiting, told = dict(enumerate(ranks.channels)), False
    while waiting:
        if not told and should_stop():
            if kind is Ready:
                raise Stopped("stopped while the ranks started")
            told = True
            for rank in waiting:
                send(ranks, rank, Stop(number=number))
        for rank in _talking(waiting, POLL_SECONDS):
            message = _receive(ranks, rank)
            if isinstance(message, Step) and message.number == number:
                on_step(message)
            elif isinstance(message, kind) and getattr(message, "number", number) == number:
                del waiting[rank]
                yield message


def send(ranks: Ranks, rank: int, message: Stop | Message) -> None:
    """Send a rank a message; raise RankFailed if it is gone."""
    try:
        wire.send(ranks.channels[rank], message)
    except OSError:
        raise _cause(ranks, rank, None) from None


def _talking(channels: dict[int, Connection], timeout: float) -> list[int]:
    """Return the ranks that have something to say, after at most `timeout` seconds."""
    ready = wait(list(channels.values()), timeout)
    return [rank for rank, channel in channels.items() if channel in ready]


def _receive(ranks: Ranks, rank: int) -> Message:
    try:
        message = wire.receive(ranks.channels[rank])
    except (EOFError, OSError):
        raise _cause(ranks, rank, None) from None
    if isinstance(message, Failed):
        raise _cause(ranks, rank, message)
    return message


def _cause(ranks: Ranks, rank: int, failed: Failed | None) -> RankFailed:
    """Return the failure that came first: if a rank only lost its peers, wait for word from the one that broke."""
    others = {other: channel for other, channel in enumerate(ranks.channels) if other != rank}
    deadline = time.monotonic() + CAUSE_SECONDS
    while failed is not None and failed.consequence and others and time.monotonic() < deadline:
        for other in _talking(others, POLL_SECONDS):
            try:
                message = wire.receive(others[other])
            except (EOFError, OSError):
                return _silent(ranks, other)
            if isinstance(message, Failed):
                del others[other]
                rank, failed = (rank, failed) if message.consequence else (other, message)
    if failed is None:
        return _silent(ranks, rank)
    return RankFailed(f"{ranks.name(rank)} failed: {failed.message}", rank=rank, traceback=failed.traceback)


def _silent(ranks: Ranks, rank: int) -> RankFailed:
    return RankFailed(f"{ranks.name(rank)} ended without a word, exit code {ranks.exit_code(rank)}", rank=rank)
