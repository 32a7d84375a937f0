"""What the sampler says of a call of the net to the layers that are in it. The same on all ranks."""

from dataclasses import dataclass, field

from .stale import Kept, Mode
from .turns import InOrder


@dataclass
class Call:
    """How the layers of a net work at the moment: set by the sampler between calls, and kept for a job."""

    step: int = 0  # of the job's schedule, from 0
    biases: tuple[float, float] = (0.0, 0.0)  # added to the logits of local and of global keys
    mode: Mode = Mode.EXACT  # what an exchange does on this step
    outermost_only: bool = False  # run the outermost blocks only, on what the deep ones made last (reuse.py)
    turns: InOrder = field(default_factory=InOrder)  # of the calls of a step (guidance.py)
    kept: Kept = field(default_factory=Kept)  # messages that later steps use (stale.py)

    @property
    def number(self) -> int:
        """Which call of the step is at work."""
        return self.turns.now
