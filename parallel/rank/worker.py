"""A rank's process, started by the pool (pool/launchers.py), which writes one line to its standard input."""

import faulthandler
import gc
import logging
import os
import signal
import threading
import traceback

from ..wire import channel as wire
from ..wire.messages import Failed, Hello, Start
from .faults import explain


def read_start() -> Start:
    """Return the line that the host wrote; end if the host is gone."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(0, 1) or os._exit(0)
    return Start.model_validate_json(line)


def end_with_host() -> None:
    """End this process as soon as standard input does: the host closed it, or is gone, however it ended."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> None:
    """Serve until the host is gone; turn any crash, a failed import too, into a message with its traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the host's to handle
    faulthandler.enable()  # a crash in native code is to leave some words, too
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    start = read_start()
    threading.Thread(target=end_with_host, daemon=True).start()
    channel = wire.connect(start.channel_port, bytes.fromhex(start.key))
    wire.send(channel, Hello(rank=start.rank))
    rank = None
    try:
        gc.disable()  # a fifth of an import's time goes into looking for garbage among what stays
        from .serve import Rank, meet  # late, so that a missing or broken package is reported as what it is

        gc.freeze()
        gc.enable()
        rank = Rank(channel, meet(start))
        rank.serve()
    except EOFError:
        pass  # the host closed the channel
    except Exception as error:
        fault, said = explain(error)
        number = rank.number if rank else 0
        failed = Failed(number=number, rank=start.rank, fault=fault, message=said, traceback=traceback.format_exc())
        wire.send(channel, failed)
    os._exit(1)  # no clean-up: after a fault, leaving the group may wait for ever on a peer that is gone


if __name__ == "__main__":
    main()
