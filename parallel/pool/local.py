"""A pool of ranks on this machine: start, run(job) -> video, stop."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch

from ..families import folder
from ..families.table import ModelFolder
from ..job.errors import Overflowed, RankFailed, RankLost, Stopped
from ..job.job import Job
from ..wire.messages import Done, Phase, RankReport, Ready, Step, Work
from .devices import usable_cores
from .init import check_embeddings, check_init, check_keyframes, check_picture_tokens
from .launchers import Launcher, fastest_launcher
from .listen import listen, send
from .movie import RUN, Movie
from .outlet import Outlet
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


@dataclass(frozen=True)
class Caller:
    """Who asked for a job: is shown each step and each notice, and may ask to stop."""

    on_step: Callable[[Step], None]
    on_notice: Callable[[str], None]
    should_stop: Callable[[], bool]


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
        self._launcher = launcher or fastest_launcher(len(devices))
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
        model: ModelFolder | None = None,
        init: torch.Tensor | None = None,
        init_is_latents: bool = False,
        keyframes: torch.Tensor | None = None,
        embeddings: torch.Tensor | None = None,
        picture_tokens: torch.Tensor | None = None,
        stored: Stored | None = None,
        keeper: Keeper | None = None,
        movie: Movie | None = None,
        on_step: Callable[[Step, torch.Tensor], None] = lambda step, latents: None,
        on_notice: Callable[[str], None] = lambda said: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Video:
        """Make a video, with `model` if the job's folder was inspected already: the ranks load what the host saw then.

        `init` is frames (T or 1, H, W, 3), uint8 or float in [0, 1]; one frame serves for all. With `init_is_latents` it is
        latents (C, T or 1, h, w) as the net sees them. `keyframes` are the pictures of all of the job's, (pictures, H, W, 3),
        of either type. `embeddings` are those of the job's texts, (texts, tokens, width), and no rank needs a text encoder then; `picture_tokens`
        are what the net takes of keyframes beside them, (pictures, tokens, width), and none needs an image encoder. All but an init
        of a `stored` job come with it. With 0 steps it is only encoded or decoded. `on_step` gets every step of
        every rank, and the latents (C, T, h, w) as they are by then. A lost rank costs the step that it was in: the ranks left
        start again from the last one, and `on_notice` gets the reason, as it gets what ranks have to say to the user. `stored`
        goes on from a file that a `keeper` wrote. With a `movie` frames go there as they come, and out of memory: the video has none.

        Raises JobRefused before any rank works, Stopped within one step after `should_stop` returns true (the ranks stay warm,
        or end if they still load), RankFailed if a rank fails or too many are lost (all ranks end; finished latents come with
        it), Overflowed if numbers are not finite.
        """
        model = folder.check(job, len(self.devices), model)
        check_init(job, model, init, is_latents=init_is_latents, resumes=stored is not None)
        if stored is not None:
            keyframes, embeddings, picture_tokens = stored.keyframes, stored.embeddings, stored.picture_tokens
        check_keyframes(job, keyframes)
        check_embeddings(job, model, embeddings)
        check_picture_tokens(job, model, picture_tokens)
        with ExitStack() as stack:
            reserved = stack.enter_context(
                reserve(
                    job,
                    model,
                    init=init,
                    init_is_latents=init_is_latents,
                    keyframes=keyframes,
                    embeddings=embeddings,
                    picture_tokens=picture_tokens,
                    most_held=None if movie is None else RUN,
                    ranks=len(self.devices),
                )
            )
            outlet = None if movie is None or reserved.frames is None else Outlet(reserved.frames, reserved.snapshot, movie)
            if stored is not None:
                reserved.snapshot.write_video(stored.step, stored.planes)
            if keeper is not None:
                stack.callback(keeper.write, reserved.snapshot)  # what a stop or a fault leaves undone can go on later

            phases: set[Phase] = set()

            def show(step: Step) -> None:
                phases.add(step.phase)
                if outlet is not None and step.phase == "decode":
                    outlet.drain()
                on_step(step, reserved.latents.tensor)
                if keeper is not None:
                    keeper.write_if_due(reserved.snapshot)

            try:
                return self._survive(reserved, Caller(show, on_notice, should_stop))
            except RankFailed as failed:
                if "decode" in phases and job.num_inference_steps:  # no rank decodes before all have done all steps
                    failed.latents = reserved.latents.tensor[None]
                raise

    def _survive(self, reserved: Reserved, caller: Caller) -> Video:
        """Work until the job is done, on the devices that are left."""
        devices, start_seconds, last_crash = self.devices, 0.0, ""
        for restart in range(self.restarts + 1):
            began, met = time.perf_counter(), False
            try:
                self.start(caller.should_stop, devices)
                met = True
                start_seconds += time.perf_counter() - began
                work = reserved.work.model_copy(update={"resume": reserved.snapshot.whole()})
                done = self._work(work, caller)
                if any(message.stopped for message in done):
                    raise Stopped("stopped: all ranks ended the job between two steps and stay warm")
                return _video(reserved, done, start_seconds, restart)
            except RankLost as lost:
                log.error("%s\n%s", lost, lost.traceback)
                if caller.should_stop():
                    raise Stopped("stopped while a rank was lost: all ranks were ended") from lost
                crash = "" if met else lost.reason  # of a rank as it started, and so whatever the job and device
                if restart == self.restarts or (crash and crash == last_crash):
                    raise RankFailed(_hopeless(lost, restart), rank=lost.rank, traceback=lost.traceback) from lost
                devices, last_crash = _left(devices, lost.rank), crash
                said = f"{lost}; going on from step {reserved.snapshot.whole()} on {','.join(devices)}"
                log.warning("%s (restart %d of at most %d)", said, restart + 1, self.restarts)
                caller.on_notice(said)
            except Overflowed:
                raise
            except RankFailed as failed:
                log.error("%s\n%s", failed, failed.traceback)
                raise
        raise AssertionError("the last attempt returns or raises")

    def _work(self, work: Work, caller: Caller) -> list[Done]:
        """Let the ranks, which have met, do their work; return what each says at its end."""
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
                should_stop=caller.should_stop,
                on_step=caller.on_step,
                on_notice=caller.on_notice,
            )
            return list(ends)

    @contextmanager
    def _all_or_none(self) -> Iterator[None]:
        """End all ranks if anything but a clean stop ends the block: those left could wait for ever on one that is gone."""
        with ExitStack() as undo:
            undo.callback(self._end_ranks)
            yield
            undo.pop_all()


def _video(reserved: Reserved, done: list[Done], start_seconds: float, restarts: int) -> Video:
    """Return what the ranks left in the blocks; nothing is copied."""
    reports = tuple(sorted((message.report for message in done), key=lambda report: report.rank))
    frames = reserved.frames.tensor if reserved.frames and reserved.work.most_held is None else None
    return Video(reserved.latents.tensor[None], frames, start_seconds, reports, restarts)


def _left(devices: tuple[str, ...], lost: int | None) -> tuple[str, ...]:
    """Return the devices without that of a lost rank, or all of them if it is the last one, or nobody knows which it was."""
    if lost is None or len(devices) == 1:
        return devices
    return devices[:lost] + devices[lost + 1 :]


def _hopeless(lost: RankLost, restarts: int) -> str:
    times = f"after {restarts} restart{'s' * (restarts != 1)} " if restarts else ""
    return f"{lost}. Given up {times}(see the log for each fault): run it again, or on other devices"
