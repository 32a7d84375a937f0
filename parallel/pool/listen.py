"""Listen to all ranks at once: hand their steps on, pass a wish to stop down, and name the one that failed first."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from pydantic import ValidationError

from ..job.errors import Overflowed, RankFailed, RankLost, Stopped
from ..wire import channel
from ..wire.messages import Done, Failed, Message, Notice, Ready, Step, Stop
from .ranks import Ranks
from .watch import Patience, Watch

POLL_SECONDS = 0.05  # how often the caller's wish to stop is asked for, and the ranks are looked at
STOP_SECONDS = 3.0  # after a wish to stop: how long ranks may still load or encode, before they are ended
CAUSE_SECONDS = 2.0  # after a rank has lost its peers: how long to wait for word from the one that failed first
GONE = (EOFError, OSError, ValidationError)  # of a channel: its end, or garbage
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

    `on_notice` gets each notice once, however many ranks send it. A wish to stop a job is passed down, and its end awaited.

    Raises RankLost when a rank is gone, or silent for longer than `patience` allows, RankFailed when one says that it failed,
    and Stopped when the caller asks to stop before the ranks are ready, or while one of them loads or encodes and does not end
    soon: those that wait for it are left in their collective.
    """
    awaited = dict(enumerate(ranks.channels))
    meeting = kind is Ready  # before the first job: nobody can end what all wait for, so that a stop ends the ranks
    watch = Watch(patience, meeting=meeting)
    watch.begin(len(awaited))
    notices: set[str] = set()
    stop_by: float | None = None
    while awaited:
        if stop_by is None and should_stop():
            if meeting:
                raise Stopped("stopped while the ranks started")
            _pass_on_stop(ranks, awaited, number)
            stop_by = time.monotonic() + STOP_SECONDS
        for rank in _with_a_message(awaited, POLL_SECONDS):
            message = _receive(ranks, rank)
            if getattr(message, "number", number) != number:  # Ready has none: it is of no job
                continue
            if isinstance(message, kind):
                del awaited[rank]
                yield message
            elif isinstance(message, Step) and message.rank == rank:
                watch.record(message)
                _show(message, on_step, watch)
            elif isinstance(message, Notice) and message.text not in notices:
                notices.add(message.text)
                on_notice(message.text)
        _check_alive(ranks, awaited, watch)
        if stop_by is not None and time.monotonic() > stop_by and any(map(watch.prepares, awaited)):
            raise Stopped("stopped while the ranks loaded: they were ended, and start again with the next job")


def _pass_on_stop(ranks: Ranks, awaited: Iterable[int], number: int) -> None:
    for rank in awaited:
        send(ranks, rank, Stop(number=number))


def _show(step: Step, on_step: Callable[[Step], None], watch: Watch) -> None:
    """Show the caller a step. How long that takes is no rank's silence."""
    began = time.monotonic()
    on_step(step)
    watch.leave_out(time.monotonic() - began)


def send(ranks: Ranks, rank: int, message: Stop | Message) -> None:
    """Send a rank a message; raise RankLost if it is gone."""
    try:
        channel.send(ranks.channels[rank], message)
    except OSError:
        raise _first_error(ranks, rank) from None


def _with_a_message(channels: dict[int, Connection], timeout: float) -> list[int]:
    """Return the ranks from which a message has come, after at most `timeout` seconds."""
    ready = wait(list(channels.values()), timeout)
    return [rank for rank, connection in channels.items() if connection in ready]


def _receive(ranks: Ranks, rank: int) -> Message:
    """Return the message that has come from a rank; raise what went wrong if the rank failed or is gone."""
    try:
        message = channel.receive(ranks.channels[rank])
    except GONE:
        raise _first_error(ranks, rank) from None
    if isinstance(message, Failed):
        raise _first_error(ranks, rank, message)
    return message


def _check_alive(ranks: Ranks, awaited: dict[int, Connection], watch: Watch) -> None:
    """Raise RankLost if a rank's process is gone and all that it sent was read, or if ranks are silent for too long."""
    silent = [rank for rank, connection in awaited.items() if not connection.poll()]  # others were not listened to yet
    for rank in silent:
        if ranks.processes[rank].poll() is not None:
            raise _first_error(ranks, rank)
    for rank in silent:
        silence = watch.silence(rank)
        if silence > watch.patience.floor and ranks.is_suspended(rank):
            raise RankLost(f"{ranks.name(rank)} is suspended and said nothing for {silence:.0f} s: it was ended", rank=rank)
    stuck = watch.stuck(awaited)
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


def _first_error(ranks: Ranks, rank: int, failed: Failed | None = None) -> RankFailed:
    """Return what went wrong first, when a rank is gone or has said that it failed.

    One that only lost its peers is not the cause: for a while it is waited for word from the one that broke.
    """
    failed = failed or _last_failure(ranks.channels[rank])
    if failed is None:
        return ranks.ended(rank)
    if failed.fault == "peer":
        elsewhere = _first_error_elsewhere(ranks, rank)
        if elsewhere is not None:
            return elsewhere
    return _error(ranks, rank, failed)


def _first_error_elsewhere(ranks: Ranks, victim: int) -> RankFailed | None:
    """Return why another rank is gone or failed, for a reason of its own; None if all that speak in time lost their peers, too.

    All that they say beside is dropped: the job has failed.
    """
    others = {rank: connection for rank, connection in enumerate(ranks.channels) if rank != victim}
    deadline = time.monotonic() + CAUSE_SECONDS
    while others and time.monotonic() < deadline:
        for rank in _with_a_message(others, POLL_SECONDS):
            try:
                message = channel.receive(others[rank])
            except GONE:
                return ranks.ended(rank)
            if isinstance(message, Failed) and message.fault != "peer":
                return _error(ranks, rank, message)
            if isinstance(message, Failed):
                del others[rank]
    return None


def _error(ranks: Ranks, rank: int, failed: Failed) -> RankFailed:
    """Return what a rank said of its failure, as an error. It blames the rank unless another one, or none, is at fault."""
    if failed.fault == "overflow":
        return Overflowed(failed.message, rank=None)
    if failed.fault == "out_of_step":
        return RankFailed(failed.message, rank=None, traceback=failed.traceback)
    said = f"{ranks.name(rank)} {failed.message}"
    if failed.fault == "peer":
        return RankLost(said, rank=None, traceback=failed.traceback)
    if failed.fault == "device":
        return RankLost(said, rank=rank, traceback=failed.traceback)
    return RankFailed(said, rank=rank, traceback=failed.traceback)


def _last_failure(connection: Connection) -> Failed | None:
    """Return what a rank said of its failure, if it did and nobody has read it yet."""
    with suppress(*GONE):
        while connection.poll():
            message = channel.receive(connection)
            if isinstance(message, Failed):
                return message
    return None
