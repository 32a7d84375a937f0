"""A rank that has one fault: the pool's own worker, but for what happens as it is about to say that it got somewhere.

The environment says which: VIDEO_INFINITY_FAULT is `RANK,POINT,KIND,FILE`. The file is made when the fault happens, so that it
happens once. (Nothing in the pack reads this variable.)
"""

import os
import signal

from parallel.rank import worker
from parallel.wire import channel as wire
from parallel.wire.messages import Done, Step

POINTS = ("load", "encode", "first step", "middle step", "last step", "decode", "hand-over")
KINDS = ("SIGKILL", "SIGSTOP", "exception", "out of memory")
send = wire.send


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
    who, where, kind, file = os.environ["VIDEO_INFINITY_FAULT"].split(",")
    if point_of(message) == where and message.rank == int(who):
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            befall(kind)
    send(channel, message)


if __name__ == "__main__":
    wire.send = send_or_fail
    worker.main()
