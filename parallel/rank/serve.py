"""What a rank does between its start and its end: one job after another, with a warm model."""

import sys
import time
from multiprocessing.connection import Connection

import torch

from ..comm.group import Group, open_group
from ..job.errors import Stopped
from ..sampler.generate import Blocks, generate
from ..sampler.load import Model, load
from ..wire import channel
from ..wire.blocks import attach
from ..wire.messages import Done, Notice, Phase, RankReport, Ready, Start, Step, Stop, Work
from ..wire.snapshot import Snapshot


def meet(start: Start) -> Group:
    """Meet the other ranks, with this rank's threads set."""
    torch.backends.cudnn.allow_tf32 = False  # else a GPU's convolutions round float32 to 10 bits, differently by the slice
    if start.threads is not None:
        torch.set_num_threads(start.threads)
    me = (start.rank, start.world_size, torch.device(start.device))
    return open_group(*me, host=channel.HOST, port=start.store_port, name=f"generation {start.generation}")


class Rank:
    """What a rank keeps between jobs: its connection, its group and a warm model."""

    def __init__(self, connection: Connection, group: Group):
        self.connection = connection
        self.group = group
        self.number = 0  # of the running job, 0 before the first
        self.model: Model | None = None
        self.reads = self.looks = False  # whether the model has its text and image encoders, where this rank is to have them
        self.stopped = False

    def serve(self) -> None:
        """Do one job after another until the host is gone."""
        channel.send(self.connection, Ready(rank=self.group.rank))
        while True:
            message = channel.receive(self.connection)
            if isinstance(message, Work):  # a late Stop for a job that has ended is dropped
                self.number, self.stopped = message.number, False
                self._work(message)

    def _work(self, work: Work) -> None:
        clock = Clock()
        meter = self.group.meter
        meter.waited, meter.sent, meter.messages = 0.0, 0, 0
        if self.group.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.group.device)

        def report(phase: Phase, step: int, steps: int) -> None:
            clock.enter(phase)
            channel.send(self.connection, Step(number=work.number, rank=self.group.rank, phase=phase, step=step, steps=steps))

        def notify(text: str) -> None:
            channel.send(self.connection, Notice(number=work.number, rank=self.group.rank, text=text))

        report("load", 0, 1)
        model = self._load(work)
        handles = (work.frames, work.init, work.keyframes, work.embeddings, work.picture_tokens)
        pictures, init, keyframes, embeddings, tokens = (None if handle is None else attach(handle) for handle in handles)
        snapshot = None
        if work.planes is not None and work.marks is not None:
            snapshot = Snapshot(attach(work.planes), attach(work.marks))
        blocks = Blocks(
            latents_CTHW=attach(work.latents),
            frames_THWC=pictures,
            most_held=work.most_held,
            init=init,
            init_is_latents=work.init_is_latents,
            keyframes=keyframes,
            embeddings=embeddings,
            picture_tokens=tokens,
            snapshot=snapshot,
            resume=work.resume,
        )
        try:
            generate(model, work.job, blocks, self.group, report=report, notify=notify, stopping=self._stopping)
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
        channel.send(self.connection, Done(number=work.number, rank=self.group.rank, stopped=self.stopped, report=cost))

    def _load(self, work: Work) -> Model:
        """Return the work's model, which is warm if the last job had the same one, as the host inspected it, in the same type.

        Without an encoder whose part comes encoded with the work; one that is there stays.
        """
        dtype = getattr(torch, work.job.dtype)
        reads, looks = work.embeddings is None, work.picture_tokens is None
        is_warm = self.model is not None and (self.model.folder, self.model.dtype) == (work.model, dtype)
        if self.model is None or not is_warm or reads > self.reads or looks > self.looks:
            self.model = None  # frees the old one before the new one comes
            self.model = load(work.model, dtype, rank=self.group.rank, reads=reads, looks=looks)
            self.reads, self.looks = reads, looks
        return self.model

    def _stopping(self) -> bool:
        while self.connection.poll():
            message = channel.receive(self.connection)
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
