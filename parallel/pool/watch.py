"""How long a rank may be silent: a bound from how long its steps took before."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..wire.messages import Phase, Step


@dataclass(frozen=True)
class Patience:
    """Seconds. A step may take `factor` times as long as the longest before it in its phase, but always `floor`.

    A phase's first step may take `first`: a model may come from a slow disk, and a long clip may be on a CPU.
    """

    first: float = 1800.0
    floor: float = 60.0
    factor: float = 10.0


@dataclass
class Watch:
    """When each rank spoke last, and of what.

    Some phases a rank works through alone: loading, encoding, decoding. In others it may be waiting for the rest, and its
    silence says nothing of it: in the meeting, when it has encoded and the rest has not, and while all denoise.
    """

    patience: Patience
    meeting: bool = False  # what is awaited first: that all ranks have met
    spoke: dict[int, float] = field(default_factory=dict)
    last: dict[int, Step] = field(default_factory=dict)
    longest: dict[Phase, float] = field(default_factory=dict)

    def begin(self, ranks: int) -> None:
        """Start to count."""
        self.spoke = dict.fromkeys(range(ranks), time.monotonic())

    def record(self, step: Step) -> None:
        """Take in a step of a rank."""
        now = time.monotonic()
        if step.step and self.phase(step.rank) == step.phase:
            self.longest[step.phase] = max(self.longest.get(step.phase, 0.0), now - self.spoke[step.rank])
        self.spoke[step.rank], self.last[step.rank] = now, step

    def leave_out(self, seconds: float) -> None:
        """Leave out time in which nobody listened."""
        self.spoke = {rank: at + seconds for rank, at in self.spoke.items()}

    def phase(self, rank: int) -> Phase:
        """Return the phase that a rank is in."""
        return self.last[rank].phase if rank in self.last else "load"

    def waits(self, rank: int) -> bool:
        """Say whether a rank may be waiting for others."""
        step = self.last.get(rank)
        if step is None:
            return self.meeting
        return step.phase == "denoise" or (step.phase == "encode" and step.step == step.steps)

    def bound(self, rank: int) -> float:
        """Return how long a rank may be silent now."""
        phase, step = self.phase(rank), self.last.get(rank)
        before = self.longest.get(phase)
        settles = phase == "encode" and step is not None and not step.step  # it moves the model to its device, too
        if before is None or settles:
            return self.patience.first
        return max(self.patience.floor, self.patience.factor * before)

    def silence(self, *ranks: int) -> float:
        """Return how long a rank has been silent, or all of some."""
        return time.monotonic() - max(self.spoke[rank] for rank in ranks)

    def stuck(self, ranks: Iterable[int]) -> list[int]:
        """Return who has been silent for too long: one that works alone, or those that wait for each other; one of these hangs.

        As long as one has yet to load or to encode, those that wait for it are not judged.
        """
        waiting = [rank for rank in ranks if self.waits(rank)]
        alone = [rank for rank in ranks if rank not in waiting]
        for rank in alone:
            if self.silence(rank) > self.bound(rank):
                return [rank]
        if not waiting or any(self.prepares(rank) for rank in alone):
            return []
        return waiting if self.silence(*waiting) > max(map(self.bound, waiting)) else []

    def prepares(self, rank: int) -> bool:
        """Say whether a rank has yet to load or to encode."""
        return not self.meeting and not self.waits(rank) and self.phase(rank) in ("load", "encode")
