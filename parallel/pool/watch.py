"""How long a rank may be silent: a bound from how long its steps took before."""

import time
from dataclasses import dataclass, field

from ..protocol import Phase, Step


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
    """When each rank spoke last, and of what."""

    patience: Patience
    heard: dict[int, float] = field(default_factory=dict)
    phases: dict[int, Phase] = field(default_factory=dict)
    longest: dict[Phase, float] = field(default_factory=dict)

    def begin(self, ranks: int) -> None:
        """Start to count."""
        self.heard = dict.fromkeys(range(ranks), time.monotonic())

    def hear(self, step: Step) -> None:
        """Note a step of a rank."""
        now = time.monotonic()
        if step.step and self.phases.get(step.rank) == step.phase:
            self.longest[step.phase] = max(self.longest.get(step.phase, 0.0), now - self.heard[step.rank])
        self.heard[step.rank], self.phases[step.rank] = now, step.phase

    def forgive(self, seconds: float) -> None:
        """Leave out time in which nobody listened."""
        self.heard = {rank: at + seconds for rank, at in self.heard.items()}

    def bound(self, rank: int) -> float:
        """Return how long a rank may be silent now."""
        before = self.longest.get(self.phases.get(rank, "load"))
        return self.patience.first if before is None else max(self.patience.floor, self.patience.factor * before)

    def silence(self, rank: int) -> float:
        """Return how long a rank has been silent."""
        return time.monotonic() - self.heard[rank]
