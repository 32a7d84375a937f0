"""What a job is doing, in a line: loading, encoding, step and time left, decoding."""

from dataclasses import dataclass, field
from typing import get_args

from ..parallel.protocol import Phase, Step

PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass
class Status:
    """The last step of each rank, and when denoising began. The slowest rank counts."""

    model: str
    steps: dict[int, Step] = field(default_factory=dict)
    counts: dict[tuple[Phase, int], Step] = field(default_factory=dict)  # the last step of each phase and rank
    phase: Phase | None = None  # before the first step
    since: float = 0.0  # when `first`, the step that the phase was first seen with, was heard
    first: int = 0

    def hear(self, step: Step, now: float) -> None:
        """Note a step of a rank at a time in seconds."""
        if step.phase == "denoise" and not step.steps:
            return  # of a job that only encodes, or only decodes
        before = self.steps.get(step.rank)
        if step.phase == "load" and before is not None and before.phase != "load":
            self.steps.clear()  # a rank was lost, and those left start again
            self.counts.clear()
        self.steps[step.rank] = self.counts[step.phase, step.rank] = step
        phase = min((each.phase for each in self.steps.values()), key=PHASES.index)
        if phase != self.phase:
            self.phase, self.since = phase, now
            self.first = self.slowest()

    def line(self, now: float) -> str:
        """Return what to tell the user at a time in seconds."""
        at_work = [step for (phase, _), step in self.counts.items() if phase == self.phase]
        done, of = sum(step.step for step in at_work), sum(step.steps for step in at_work)
        if self.phase == "denoise":
            return self._step(now)
        if self.phase not in ("encode", "decode"):
            return f"loading {self.model}"
        word = {"encode": "encoding", "decode": "decoding"}[self.phase]
        return word if self.phase == "encode" and of <= len(at_work) else f"{word}, {done} of {of} frames"

    def _step(self, now: float) -> str:
        done, of = self.slowest(), max(step.steps for step in self.steps.values() if step.phase == "denoise")
        if done <= self.first or done >= of:
            return f"step {done} of {of}"
        left = (now - self.since) / (done - self.first) * (of - done)
        return f"step {done} of {of}, {duration(left)} left"

    def slowest(self) -> int:
        """Return the step that every rank has done in the phase of the slowest."""
        return min(step.step for step in self.steps.values() if step.phase == self.phase)


def starting(devices: tuple[str, ...]) -> str:
    """Return what to tell the user while ranks start."""
    return f"starting {len(devices)} rank{'s' * (len(devices) > 1)} on {', '.join(dict.fromkeys(devices))}"


def duration(seconds: float) -> str:
    """Return a length of time as people say it: `12 s`, `3 min`, `1 h 20 min`."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
