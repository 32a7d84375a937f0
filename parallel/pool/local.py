"""A pool of ranks on this machine: start, run(job) -> video, stop."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from .. import folder
from ..errors import JobRefused, Stopped
from ..frames import Block
from ..protocol import Done, Job, RankReport, Ready, Step, Work
from .listen import listen, send
from .ranks import Ranks

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Video:
    """A finished video: latents (1, C, T, h, w) and frames (T, H, W, 3) in [0, 1], float32, and what it cost."""

    latents: torch.Tensor
    frames: torch.Tensor | None
    start_seconds: float
    ranks: tuple[RankReport, ...]


class Pool:
    """Ranks that stay warm between jobs. After a fault the next job starts a fresh generation of them."""

    def __init__(self, devices: tuple[str, ...], threads: int | None = None):
        """Take one device a rank, as from `devices.resolve`; starts nothing. `threads` is per CPU rank."""
        self.devices = devices
        if threads is None and devices[0] == "cpu":
            threads = max(1, (os.cpu_count() or 1) // len(devices))
        self.threads = threads
        self._ranks: Ranks | None = None
        self._generation = 0
        self._number = 0

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The ranks' processes; empty when they are not running."""
        return tuple(process.pid for process in self._ranks.processes) if self._ranks else ()

    def start(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Start the ranks and wait until they have met. Does nothing if all of them run.

        Raises RankFailed if one fails or takes longer than 5 minutes, Stopped if the caller asks to stop.
        """
        if self._ranks is not None and self._ranks.alive():
            return
        self.stop()
        self._generation += 1
        self._ranks = Ranks(self.devices, self.threads, self._generation)
        with self._all_or_none():
            self._ranks.connect(should_stop)
            for ready in listen(self._ranks, Ready, number=0, should_stop=should_stop):
                log.debug("rank %d is ready", ready.rank)

    def stop(self) -> None:
        """End the ranks. Safe to call twice."""
        if self._ranks is not None:
            self._ranks.end()
            self._ranks = None

    def run(
        self,
        job: Job,
        *,
        init: torch.Tensor | None = None,
        on_step: Callable[[Step, torch.Tensor], None] = lambda step, latents: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Video:
        """Make a video. `init` is frames (T or 1, H, W, 3), uint8 or float in [0, 1], or latents (C, T, h, w).

        With 0 steps the init is only encoded or decoded. `on_step` hears every step of every rank, and sees the latents
        (C, T, h, w) as they are by then. Raises JobRefused before any rank works, Stopped within one step after
        `should_stop` returns true (the ranks stay warm), RankFailed if a rank fails (all ranks end).
        """
        shape_CTHW = self._check(job, init)
        job = job.model_copy(update={name: _absolute(getattr(job, name)) for name in ("model", "parts")})
        began = time.perf_counter()
        self.start(should_stop)
        started = time.perf_counter() - began
        with ExitStack() as stack:
            latents = stack.enter_context(Block(shape_CTHW, "float32"))
            frames = stack.enter_context(Block((job.frames, job.height, job.width, 3), "float32")) if job.decode else None
            lent = None if init is None else stack.enter_context(_lend(init))
            work = Work(
                number=self._number + 1,
                job=job,
                latents=latents.handle,
                frames=frames.handle if frames else None,
                init=lent.handle if lent else None,
                init_is_latents=init is not None and tuple(init.shape) == shape_CTHW,
            )
            done = self._work(work, lambda step: on_step(step, latents.tensor), should_stop)
        if any(message.stopped for message in done):
            raise Stopped("stopped: all ranks ended the job between two steps and stay warm")
        reports = tuple(sorted((message.report for message in done), key=lambda report: report.rank))
        return Video(latents.tensor[None], frames.tensor if frames else None, started, reports)

    def _work(self, work: Work, on_step: Callable[[Step], None], should_stop: Callable[[], bool]) -> list[Done]:
        assert self._ranks is not None, "run has started them"
        self._number = work.number
        with self._all_or_none():
            for rank in range(len(self.devices)):
                send(self._ranks, rank, work)
            return list(listen(self._ranks, Done, number=work.number, should_stop=should_stop, on_step=on_step))

    @contextmanager
    def _all_or_none(self) -> Iterator[None]:
        """End all ranks if anything but a clean stop ends the block: those left could wait for ever on one that is gone."""
        with ExitStack() as undo:
            undo.callback(self.stop)
            yield
            undo.pop_all()

    def _check(self, job: Job, init: torch.Tensor | None) -> tuple[int, int, int, int]:
        """Return the latents' shape, or raise JobRefused."""
        model = folder.check(job, len(self.devices))
        shape = (model.latent_channels, job.frames, job.height // model.scale, job.width // model.scale)
        if init is None:
            if job.denoise < 1 and job.num_inference_steps:
                raise JobRefused(f"denoise: {job.denoise:g} needs a video or latents to start from: give an init, or use 1")
            return shape
        if job.denoise == 1 and job.num_inference_steps:
            raise JobRefused("denoise: 1 would leave nothing of the init: use less, such as 0.6")
        allowed = [(job.frames, job.height, job.width, 3), (1, job.height, job.width, 3), shape]
        if tuple(init.shape) not in allowed:
            raise JobRefused(
                f"init: wanted frames {allowed[0]}, one frame {allowed[1]} or latents {allowed[2]}, got {tuple(init.shape)}"
            )
        return shape


def _absolute(folder: str | None) -> str | None:
    """Return a path that means the same to the ranks, which run in another folder."""
    return folder if folder is None else os.path.abspath(folder)


def _lend(init: torch.Tensor) -> Block:
    """Copy an init into a block that the ranks can read."""
    block = Block(tuple(init.shape), "uint8" if init.dtype == torch.uint8 else "float32")
    block.tensor.copy_(init)
    return block
