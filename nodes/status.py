"""What a job is doing, in a line: loading, encoding, step and time left, decoding."""

from dataclasses import dataclass, field
from typing import get_args

from ..parallel.wire.messages import Phase, Step

PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass
class Status:
    """The last step of each rank, and the step that all of them have done in the phase of the slowest."""

    model: str
    steps: dict[int, Step] = field(default_factory=dict)
    counts: dict[tuple[Phase, int], Step] = field(default_factory=dict)  # the last step of each phase and rank
    number: int | None = None  # of the attempt; None, as `phase`, before the first step
    phase: Phase | None = None
    done: int = 0
    reached: float = 0.0  # when `done` was
    first: int = 0  # what was done when the phase began,
    since: float = 0.0  # and when that was

    def record(self, step: Step, now: float) -> None:
        """Take in a step of a rank at a time in seconds."""
        if step.phase == "denoise" and not step.steps:
            return  # of a job that only encodes, or only decodes
        if step.number != self.number:  # a rank was lost, and those left start again
            self.steps.clear()
            self.counts.clear()
            self.number, self.phase = step.number, None
        self.steps[step.rank] = self.counts[step.phase, step.rank] = step
        slowest = min((each.phase for each in self.steps.values()), key=PHASES.index)
        phase = max(slowest, self.phase or slowest, key=PHASES.index)  # not back, when a rank speaks for the first time
        done = min(each.step for (kind, _), each in self.counts.items() if kind == phase)
        if phase != self.phase:
            self.phase, self.first, self.since = phase, done, now
            self.done, self.reached = done, now
        elif done != self.done:
            self.done, self.reached = done, now

    def line(self, now: float) -> str:
        """Return what to tell the user at a time in seconds."""
        if self.phase == "denoise":
            return self._step(now)
        if self.phase not in ("encode", "decode"):
            return f"loading {self.model}"
        at_work = [step for (phase, _), step in self.counts.items() if phase == self.phase]
        done, of = sum(step.step for step in at_work), sum(step.steps for step in at_work)
        word = {"encode": "encoding", "decode": "decoding"}[self.phase]
        return word if self.phase == "encode" and of <= len(at_work) else f"{word}, {done} of {of} frames"

    def _step(self, now: float) -> str:
        of = max(step.steps for (phase, _), step in self.counts.items() if phase == "denoise")
        if self.done <= self.first or self.done >= of:
            return f"step {self.done} of {of}"
        one = (self.reached - self.since) / (self.done - self.first)
        left = one * (of - self.done) - (now - self.reached)
        return f"step {self.done} of {of}, {duration(left)} left"


def starting(devices: tuple[str, ...]) -> str:
    """Return what to tell the user while ranks start."""
    return f"starting {len(devices)} rank{'s' * (len(devices) > 1)} on {', '.join(dict.fromkeys(devices))}"


def duration(seconds: float) -> str:
    """Return a length of time as people say it: `12 s`, `3 min`, `1 h 20 min`."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
