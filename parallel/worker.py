"""A rank: `python -m parallel.worker`, started by the pool, which writes one line to its standard input."""

import logging
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection

import torch

from . import folder, frames, wire
from .comm.group import Group, open_group
from .errors import PeerLost, Stopped
from .protocol import Done, Failed, Hello, Phase, RankReport, Ready, Start, Step, Stop, Work
from .sampler.generate import Blocks, generate
from .sampler.load import Model, load


class Rank:
    """What a rank keeps between jobs: its channel, its group and a warm model."""

    def __init__(self, channel: Connection, group: Group):
        self.channel = channel
        self.group = group
        self.number = 0  # of the running job, 0 before the first
        self.model: Model | None = None
        self.stopped = False

    def serve(self) -> None:
        """Do one job after another until the host is gone."""
        wire.send(self.channel, Ready(rank=self.group.rank))
        while True:
            message = wire.receive(self.channel)
            if isinstance(message, Work):  # a late Stop for a job that has ended is dropped
                self.number, self.stopped = message.number, False
                self._work(message)

    def _work(self, work: Work) -> None:
        clock = Clock()
        meter = self.group.meter
        meter.waited, meter.sent, meter.messages = 0.0, 0, 0

        def report(phase: Phase, step: int, steps: int) -> None:
            clock.enter(phase)
            wire.send(self.channel, Step(number=work.number, rank=self.group.rank, phase=phase, step=step, steps=steps))

        report("load", 0, 1)
        model = self._load(work)
        pictures, init = (None if handle is None else frames.attach(handle) for handle in (work.frames, work.init))
        blocks = Blocks(frames.attach(work.latents), pictures, init)
        try:
            generate(model, work.job, blocks, self.group, report=report, stopping=self._stopping)
        except Stopped:
            self.stopped = True
        cost = RankReport(
            rank=self.group.rank,
            seconds=clock.close(),
            waited_seconds=meter.waited,
            sent_bytes=meter.sent,
            messages=meter.messages,
            peak_memory_bytes=peak_memory(self.group.device),
        )
        wire.send(self.channel, Done(number=work.number, rank=self.group.rank, stopped=self.stopped, report=cost))

    def _load(self, work: Work) -> Model:
        job = work.job
        wanted, dtype = folder.inspect(job.model, job.parts), getattr(torch, job.dtype)
        if self.model is None or (self.model.folder, self.model.dtype) != (wanted, dtype):
            self.model = None  # frees the old one before the new one comes
            self.model = load(wanted, dtype, self.group.device)
        return self.model

    def _stopping(self) -> bool:
        while self.channel.poll():
            message = wire.receive(self.channel)
            self.stopped |= isinstance(message, Stop) and message.number == self.number
        return self.stopped


class Clock:
    """Seconds by phase."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.phase, self.since = "", time.perf_counter()

    def enter(self, phase: str) -> None:
        """Count the time from now on for `phase`."""
        now = time.perf_counter()
        if self.phase:
            self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + now - self.since
        self.phase, self.since = phase, now

    def close(self) -> dict[str, float]:
        """Return the seconds of each phase so far."""
        self.enter(self.phase)
        return self.seconds


def peak_memory(device: torch.device) -> int:
    """Return this process's peak memory in bytes: allocated on a GPU, resident on the CPU (0 where that can't be read)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def end_with_host() -> None:
    """End this process as soon as standard input does: the host closed it, or is gone, however it ended."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the host's to handle
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(0, 1) or os._exit(0)
    start = Start.model_validate_json(line)
    threading.Thread(target=end_with_host, daemon=True).start()
    if start.threads is not None:
        torch.set_num_threads(start.threads)
    channel = wire.connect(start.channel_port, bytes.fromhex(start.key))
    wire.send(channel, Hello(rank=start.rank))
    rank = None
    try:
        me = (start.rank, start.world_size, torch.device(start.device))
        group = open_group(*me, host=wire.HOST, port=start.store_port, name=f"generation {start.generation}")
        rank = Rank(channel, group)
        rank.serve()
    except EOFError:
        pass  # the host closed the channel
    except Exception as error:
        failed = Failed(
            number=rank.number if rank else 0,
            rank=start.rank,
            consequence=isinstance(error, PeerLost),
            message=f"{type(error).__name__}: {error}",
            traceback=traceback.format_exc(),
        )
        wire.send(channel, failed)
    os._exit(1)  # no clean-up: after a fault, leaving the group may wait for ever on a peer that is gone


if __name__ == "__main__":
    main()
