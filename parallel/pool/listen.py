"""Listen to all ranks at once: hand their steps on, pass a wish to stop down, and name the one that failed first."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from pydantic import ValidationError

from ..job.errors import Overflowed, RankFailed, RankLost, Stopped
from ..wire import channel as wire
from ..wire.messages import Done, Failed, Message, Notice, Ready, Step, Stop
from .ranks import Ranks
from .watch import Patience, Watch

POLL_SECONDS = 0.05  # how often the caller's wish to stop is asked for, and the ranks are looked at
STOP_SECONDS = 3.0  # after a wish to stop: how long ranks may still load or encode, before they are ended
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

    `on_notice` hears each notice once, however many ranks say it. A wish to stop a job is passed down, and its end awaited.

    Raises RankLost when a rank is gone, or silent for longer than `patience` allows, RankFailed when one says that it failed,
    and Stopped when the caller asks to stop before the ranks are ready, or while one of them loads or encodes and does not end
    soon: those that wait for it are left in their collective.
    """
    waiting, watch = dict(enumerate(ranks.channels)), Watch(patience, meeting=kind is Ready)
    stop_by: float | None = None
    notices: set[str] = set()
    watch.begin(len(waiting))
    while waiting:
        if stop_by is None and should_stop():
            if kind is Ready:
                raise Stopped("stopped while the ranks started")
            stop_by = time.monotonic() + STOP_SECONDS
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
        if stop_by is not None and time.monotonic() > stop_by and any(map(watch.prepares, waiting)):
            raise Stopped("stopped while the ranks loaded: they were ended, and start again with the next job")


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
    """Raise RankLost if a rank's process is gone and its last words are heard, or if ranks are silent for too long."""
    silent = [rank for rank, channel in waiting.items() if not channel.poll()]  # others were not listened to yet
    for rank in silent:
        if ranks.processes[rank].poll() is not None:
            raise _cause(ranks, rank, None)
    for rank in silent:
        silence = watch.silence(rank)
        if silence > watch.patience.floor and ranks.is_suspended(rank):
            raise RankLost(f"{ranks.name(rank)} is suspended and said nothing for {silence:.0f} s: it was ended", rank=rank)
    stuck = watch.stuck(waiting)
    if stuck and set(stuck) <= set(silent):
        raise _stuck(ranks, stuck, watch)


def _stuck(ranks: Ranks, stuck: list[int], watch: Watch) -> RankLost:
    """Return what silence means. Of ranks that wait for one another nobody knows which is stuck, and none is blamed."""
    phase, seconds, names = watch.phase(stuck[0]), watch.silence(*stuck), " and ".join(map(ranks.name, stuck))
    before = f"the longest step before took {watch.longest[phase]:.1f} s" if phase in watch.longest else "it was the first"
    what = f"did not meet in {seconds:.0f} s" if watch.meeting else f"no step of `{phase}` in {seconds:.0f} s ({before})"
    if len(stuck) == 1:
        return RankLost(f"{names} is stuck: {what}: all ranks were ended", rank=stuck[0])
    return RankLost(f"a rank is stuck, one of {names}, which wait for each other: {what}: all ranks were ended", rank=None)


def _cause(ranks: Ranks, rank: int, failed: Failed | None) -> RankFailed:
    """Return the failure that came first: if a rank only lost its peers, wait for word from the one that broke."""
    failed = failed or _last_words(ranks.channels[rank])
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
    if failed.fault == "overflow":
        return Overflowed(failed.message, rank=None)
    if failed.fault == "job":
        return RankFailed(failed.message, rank=None, traceback=failed.traceback)
    said = f"{ranks.name(rank)} {failed.message}"
    if failed.fault == "peer":
        return RankLost(said, rank=None, traceback=failed.traceback)
    kind = RankLost if failed.fault == "device" else RankFailed
    return kind(said, rank=rank, traceback=failed.traceback)


def _last_words(channel: Connection) -> Failed | None:
    """Return what a rank said of its failure, if it did and nobody has listened yet."""
    with suppress(EOFError, OSError, ValidationError):
        while channel.poll():
            message = wire.receive(channel)
            if isinstance(message, Failed):
                return message
    return None
