"""A rank that has one fault: the pool's own worker, but for what happens as it is about to say that it got somewhere.

A file says which, `RANK,POINT,KIND`, and is gone when the fault happens, so that it happens once. The environment says which file:
the same for all faults of a process, whose ranks can so be forked from one template. (Nothing in the pack reads that variable.)
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from parallel.pool import ranks
from parallel.rank import worker
from parallel.wire import channel as wire
from parallel.wire.messages import Done, Step

FILE = "VIDEO_INFINITY_FAULT"
POINTS = ("load", "encode", "first step", "middle step", "last step", "decode", "hand-over")
KINDS = ("SIGKILL", "SIGSTOP", "exception", "out of memory")
send = wire.send


@contextmanager
def faulty(rank: int, point: str, kind: str) -> Iterator[Path]:
    """Let the ranks that start inside have one fault, once; give the file that is gone when it has happened.

    The environment must name the file already, as the ranks' template must have it, too.
    """
    file, before = Path(os.environ[FILE]), ranks.WORKER
    file.write_text(f"{rank},{point},{kind}")
    ranks.WORKER = "harness.faulty_worker"
    try:
        yield file
    finally:
        ranks.WORKER = before
        file.unlink(missing_ok=True)


def point_of(message) -> str | None:
    """Return which point a rank has come to when it says this."""
    if isinstance(message, Done):
        return "hand-over"
    if not isinstance(message, Step):
        return None
    if message.phase != "denoise":
        return message.phase if message.phase != "decode" or message.step else None
    return {1: "first step", message.steps // 2: "middle step", message.steps: "last step"}.get(message.step)


def befall(kind: str) -> None:
    """Let a fault happen."""
    if kind == "exit":
        os.write(2, b"libexample: error: no room for a context\n")
        os._exit(3)
    if kind == "exception":
        raise RuntimeError("a layer broke")
    if kind == "out of memory":
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.5 GiB free.")
    os.kill(os.getpid(), getattr(signal, kind))


def send_or_fail(channel, message) -> None:
    """Send a message, or have the fault."""
    with suppress(FileNotFoundError):  # it has happened
        who, where, kind = Path(os.environ[FILE]).read_text().split(",")
        if point_of(message) == where and message.rank == int(who):
            os.unlink(os.environ[FILE])
            befall(kind)
    send(channel, message)


if __name__ == "__main__":
    wire.send = send_or_fail
    worker.main()
