"""A pool of ranks on this machine: start, run(job) -> video, stop."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch

from ..families import folder
from ..job.errors import JobRefused, Overflowed, RankFailed, RankLost, Stopped
from ..job.job import Job
from ..wire.messages import Done, Phase, RankReport, Ready, Step, Work
from .devices import usable_cores
from .launchers import Launcher, fastest_launcher
from .listen import listen, send
from .ranks import START_SECONDS, Ranks
from .reserve import Reserved, reserve
from .snapshot_file import Keeper, Stored
from .watch import Patience

log = logging.getLogger(__name__)


RESTARTS = 2


@dataclass(frozen=True)
class Video:
    """A finished video: latents (1, C, T, h, w) and frames (T, H, W, 3) in [0, 1], float32, and what it cost.

    `start_seconds` counts every start of ranks; `restarts` says how often they were lost.
    """

    latents: torch.Tensor
    frames: torch.Tensor | None
    start_seconds: float
    ranks: tuple[RankReport, ...]
    restarts: int = 0


class Pool:
    """Ranks that stay warm between jobs. When one is lost, those left go on; the next job starts all of them afresh."""

    def __init__(
        self,
        devices: tuple[str, ...],
        threads: int | None = None,
        *,
        restarts: int = RESTARTS,
        patience: Patience | None = None,
        launcher: Launcher | None = None,
    ):
        """Take one device a rank, as from `devices.resolve`; start nothing. `threads` is per rank; None shares the cores.

        None for the launcher takes the fastest one here.
        """
        self.devices = devices
        self.threads = max(1, usable_cores() // len(devices)) if threads is None else threads
        self.restarts = restarts
        self.patience = patience or Patience()
        self._launcher = launcher or fastest_launcher()
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

    def start(self, should_stop: Callable[[], bool] = lambda: False, devices: tuple[str, ...] | None = None) -> None:
        """Start a rank on each device (None: on all of the pool's) and wait until they have met; nothing if they all run.

        Raises RankLost if one dies or takes longer than 5 minutes, RankFailed if one can't, Stopped if the caller asks to stop.
        """
        devices = devices or self.devices
        if self._ranks is not None and self._ranks.alive() and self._ranks.devices == devices:
            return
        self._end_ranks()
        self._generation += 1
        with self._all_or_none():
            self._launcher.prepare(should_stop)
            self._ranks = Ranks(devices, self.threads, self._generation, self._launcher)
            self._ranks.connect(should_stop)
            patience = replace(self.patience, first=min(self.patience.first, START_SECONDS))
            for ready in listen(self._ranks, Ready, number=0, patience=patience, should_stop=should_stop):
                log.debug("rank %d is ready", ready.rank)

    def stop(self) -> None:
        """End the ranks, and what was kept to start more of them soon. Safe to call twice."""
        self._end_ranks()
        self._launcher.stop()

    def _end_ranks(self) -> None:
        if self._ranks is not None:
            self._ranks.end()
            self._ranks = None

    def run(
        self,
        job: Job,
        *,
        init: torch.Tensor | None = None,
        init_is_latents: bool = False,
        stored: Stored | None = None,
        keeper: Keeper | None = None,
        on_step: Callable[[Step, torch.Tensor], None] = lambda step, latents: None,
        on_notice: Callable[[str], None] = lambda said: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Video:
        """Make a video. `init` is frames (T or 1, H, W, 3), uint8 or float in [0, 1]; one frame serves for all.

        With `init_is_latents` it is latents (C, T or 1, h, w) as the net sees them. With 0 steps it is only encoded or decoded.
        `on_step` hears every step of every rank, and sees the latents (C, T, h, w) as they are by then. A lost rank costs the
        step that it was in: the ranks left start again from the last one, and `on_notice` hears why, as it hears what ranks
        have to say to the user. `stored` goes on from a file that a `keeper` wrote.

        Raises JobRefused before any rank works, Stopped within one step after `should_stop` returns true (the ranks stay warm,
        or end if they still load), RankFailed if a rank fails or too many are lost (all ranks end; finished latents come with
        it), Overflowed if numbers are not finite.
        """
        model = folder.check(job, len(self.devices))
        shape_CTHW = _check(job, model, init, init_is_latents=init_is_latents, resumed=stored is not None)
        job = folder.located(job)
        with ExitStack() as stack:
            blocks = stack.enter_context(reserve(job, model, shape_CTHW, init, init_is_latents=init_is_latents))
            if stored is not None:
                blocks.kept.put(stored.step, stored.planes)
            if keeper is not None:
                stack.callback(keeper.write, blocks.kept)  # what a stop or a fault leaves undone can go on later

            phases: set[Phase] = set()

            def hear(step: Step) -> None:
                phases.add(step.phase)
                on_step(step, blocks.latents.tensor)
                if keeper is not None:
                    keeper.look(blocks.kept)

            try:
                done, started, restarts = self._survive(blocks, hear, on_notice, should_stop)
            except RankFailed as failed:
                if "decode" in phases and job.num_inference_steps:  # no rank decodes before all have done all steps
                    failed.latents = blocks.latents.tensor[None]
                raise
        if any(message.stopped for message in done):
            raise Stopped("stopped: all ranks ended the job between two steps and stay warm")
        reports = tuple(sorted((message.report for message in done), key=lambda report: report.rank))
        frames = blocks.frames.tensor if blocks.frames else None
        return Video(blocks.latents.tensor[None], frames, started, reports, restarts)

    def _survive(
        self,
        blocks: Reserved,
        on_step: Callable[[Step], None],
        on_notice: Callable[[str], None],
        should_stop: Callable[[], bool],
    ) -> tuple[list[Done], float, int]:
        """Work until the job is done, on the devices that are left; return what ranks said, seconds of starts, restarts."""
        devices, started, kept, reason = self.devices, 0.0, blocks.kept, ""
        for restart in range(self.restarts + 1):
            began, met = time.perf_counter(), False
            try:
                self.start(should_stop, devices)
                met = True
                started += time.perf_counter() - began
                work = blocks.work.model_copy(update={"resume": kept.whole()})
                return self._work(work, on_step, on_notice, should_stop), started, restart
            except RankLost as lost:
                log.error("%s\n%s", lost, lost.traceback)
                if should_stop():
                    raise Stopped("stopped while a rank was lost: all ranks were ended") from lost
                again = not met and lost.reason and lost.reason == reason  # as it started, and so whatever the job and device
                if restart == self.restarts or again:
                    raise RankFailed(_hopeless(lost, restart), rank=lost.rank, traceback=lost.traceback) from lost
                devices, reason = _left(devices, lost.rank), "" if met else lost.reason
                said = f"{lost}; going on from step {kept.whole()} on {','.join(devices)}"
                log.warning("%s (restart %d of at most %d)", said, restart + 1, self.restarts)
                on_notice(said)
            except Overflowed:
                raise
            except RankFailed as failed:
                log.error("%s\n%s", failed, failed.traceback)
                raise
        raise AssertionError("the last attempt returns or raises")

    def _work(
        self,
        work: Work,
        on_step: Callable[[Step], None],
        on_notice: Callable[[str], None],
        should_stop: Callable[[], bool],
    ) -> list[Done]:
        assert self._ranks is not None, "they were started"
        self._number += 1
        work = work.model_copy(update={"number": self._number})
        with self._all_or_none():
            for rank in range(len(self._ranks.devices)):
                send(self._ranks, rank, work)
            ends = listen(
                self._ranks,
                Done,
                number=work.number,
                patience=self.patience,
                should_stop=should_stop,
                on_step=on_step,
                on_notice=on_notice,
            )
            return list(ends)

    @contextmanager
    def _all_or_none(self) -> Iterator[None]:
        """End all ranks if anything but a clean stop ends the block: those left could wait for ever on one that is gone."""
        with ExitStack() as undo:
            undo.callback(self._end_ranks)
            yield
            undo.pop_all()


def _left(devices: tuple[str, ...], lost: int | None) -> tuple[str, ...]:
    """Return the devices without that of a lost rank, or all of them if it is the last one, or nobody knows which it was."""
    if lost is None or len(devices) == 1:
        return devices
    return devices[:lost] + devices[lost + 1 :]


def _hopeless(lost: RankLost, restarts: int) -> str:
    times = f"after {restarts} restart{'s' * (restarts != 1)} " if restarts else ""
    return f"{lost}. Given up {times}(see the log for each fault): run it again, or on other devices"


def _check(
    job: Job, model: folder.ModelFolder, init: torch.Tensor | None, *, init_is_latents: bool, resumed: bool
) -> tuple[int, int, int, int]:
    """Return the latents' shape, or raise JobRefused if the init does not suit the job."""
    shape = (model.latent_channels, job.frames, job.height // model.scale, job.width // model.scale)
    if init is None:
        if job.denoise < 1 and job.num_inference_steps and not resumed:
            raise JobRefused(f"denoise: {job.denoise:g} needs a video or latents to start from: give an init, or use 1")
        return shape
    if job.denoise == 1 and job.num_inference_steps:
        raise JobRefused("denoise: 1 would leave nothing of the init: use less, such as 0.6")
    kind, whole, one = "frames", (job.frames, job.height, job.width, 3), (1, job.height, job.width, 3)
    if init_is_latents:
        kind, whole, one = "latents", shape, (shape[0], 1, *shape[2:])
    if tuple(init.shape) not in (whole, one):
        raise JobRefused(f"init: wanted {kind} of shape {whole} or {one}, got {tuple(init.shape)}")
    if init.is_floating_point() and not bool(torch.isfinite(init).all()):
        raise JobRefused("init: wanted finite numbers, got some that are not: make it again, in a wider type such as float32")
    return shape
