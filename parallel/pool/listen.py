"""Listen to all ranks at once: hand their steps on, pass a wish to stop down, and name the one that failed first."""

import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from pydantic import ValidationError

from .. import wire
from ..errors import RankFailed, RankLost, Stopped
from ..protocol import Done, Failed, Message, Notice, Ready, Step, Stop
from .ranks import Ranks
from .watch import Patience, Watch

POLL_SECONDS = 0.05  # how often the caller's wish to stop is asked for, and the ranks are looked at
CAUSE_SECONDS = 2.0  # after a rank has lost its peers: how long to wait for word from the one that failed first
Last = TypeVar("Last", Ready, Done)


def listen(
    ranks: Ranks,
    kind: type[Last],
    *,
    number: int,
    patience: Patience,
    should_stop: Callable[[], bool],
    on_step: Callable[[Step], None] = lambda step: None,
    on_notice: Callable[[str], None] = lambda text: None,
) -> Iterator[Last]:
    """Yield the one message of a kind that each rank sends; messages of jobs other than `number` are dropped.

    `on_notice` hears each notice once, however many ranks say it.

    Raises RankLost when a rank is gone, or silent for longer than `patience` allows, RankFailed when one says that it failed,
    and Stopped when the caller asks to stop before the ranks are ready. A wish to stop a job is passed down, and its end awaited.
    """
    waiting, told, watch = dict(enumerate(ranks.channels)), False, Watch(patience)
    notices: set[str] = set()
    watch.begin(len(waiting))
    while waiting:
        if not told and should_stop():
            if kind is Ready:
                raise Stopped("stopped while the ranks started")
            told = True
            for rank in waiting:
                send(ranks, rank, Stop(number=number))
        for rank in _talking(waiting, POLL_SECONDS):
            message = _receive(ranks, rank)
            if isinstance(message, Step) and message.number == number and message.rank == rank:
                watch.hear(message)
                began = time.monotonic()
                on_step(message)
                watch.forgive(time.monotonic() - began)
            elif isinstance(message, Notice) and message.number == number and message.text not in notices:
                notices.add(message.text)
                on_notice(message.text)
            elif isinstance(message, kind) and getattr(message, "number", number) == number:
                del waiting[rank]
                yield message
        _check(ranks, waiting, watch)


def send(ranks: Ranks, rank: int, message: Stop | Message) -> None:
    """Send a rank a message; raise RankLost if it is gone."""
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
    except (EOFError, OSError, ValidationError):
        raise _cause(ranks, rank, None) from None
    if isinstance(message, Failed):
        raise _cause(ranks, rank, message)
    return message


def _check(ranks: Ranks, waiting: dict[int, Connection], watch: Watch) -> None:
    """Raise RankLost if a rank's process is gone and its last words are heard, or if a rank is silent for too long."""
    for rank, channel in waiting.items():
        if channel.poll():
            continue  # it has spoken, and was not listened to yet
        if ranks.processes[rank].poll() is not None:
            raise _cause(ranks, rank, None)
        silence = watch.silence(rank)
        if silence > watch.patience.floor and ranks.is_suspended(rank):
            raise RankLost(f"{ranks.name(rank)} is suspended and said nothing for {silence:.0f} s: it was ended", rank=rank)
        if silence > watch.bound(rank):
            raise _stuck(ranks, rank, watch)


def _stuck(ranks: Ranks, rank: int, watch: Watch) -> RankLost:
    """Return what a rank's silence means. Ranks that denoise wait for one another: nobody knows which of them is stuck."""
    phase = watch.phases.get(rank, "load")
    before = f"the longest step before took {watch.longest[phase]:.1f} s" if phase in watch.longest else "it was the first"
    alone = phase != "denoise" or len(ranks.processes) == 1
    who = ranks.name(rank) if alone else f"a rank ({ranks.name(rank)}, or one that it waits for)"
    said = f"{who} is stuck: no step of `{phase}` in {watch.silence(rank):.0f} s ({before}): all ranks were ended"
    return RankLost(said, rank=rank if alone else None)


def _cause(ranks: Ranks, rank: int, failed: Failed | None) -> RankFailed:
    """Return the failure that came first: if a rank only lost its peers, wait for word from the one that broke."""
    others = {other: channel for other, channel in enumerate(ranks.channels) if other != rank}
    deadline = time.monotonic() + CAUSE_SECONDS
    while failed is not None and failed.fault == "peer" and others and time.monotonic() < deadline:
        for other in _talking(others, POLL_SECONDS):
            try:
                message = wire.receive(others[other])
            except (EOFError, OSError, ValidationError):
                return ranks.ended(other)
            if isinstance(message, Failed):
                del others[other]
                rank, failed = (rank, failed) if message.fault == "peer" else (other, message)
    if failed is None:
        return ranks.ended(rank)
    said = f"{ranks.name(rank)} {failed.message}"
    if failed.fault == "peer":
        return RankLost(said, rank=None, traceback=failed.traceback)
    kind = RankLost if failed.fault == "device" else RankFailed
    return kind(said, rank=rank, traceback=failed.traceback)
