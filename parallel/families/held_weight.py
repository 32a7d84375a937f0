"""The size of a weight that stays as its file has it, and of the numbers that are made of it while its layer is at work."""

from pydantic import Field

from ..job.job import Frozen
from .gguf_file import BLOCKS
from .quantization import Weight

SCALE_BYTES = 4  # of a number that multiplies others: float32
BLOCKS_MADE = 10.4  # bytes alive for a number while blocks become numbers, in float32: 8.1 of Q8_0 and 10.4 of Q5_K, the most
FP8_MADE = 2  # numbers alive for one while fp8 is scaled: before, and after


class HeldWeight(Frozen):
    """A linear layer's weight as its file has it."""

    numbers: int = Field(ge=0)
    bytes: int = Field(ge=0, description="in memory, its scale included")
    in_blocks: bool

    @classmethod
    def of(cls, weight: Weight) -> "HeldWeight":
        """Return the size of a quantized weight."""
        entry = weight.entry
        scale = 0 if weight.scale is None else SCALE_BYTES * weight.scale.numbers
        return cls(numbers=entry.numbers, bytes=entry.end - entry.begin + scale, in_blocks=entry.kind in BLOCKS)

    def making_bytes(self, item: int) -> int:
        """Return the bytes alive at once while its numbers are made, in a type of so many bytes a number."""
        return round(self.numbers * (BLOCKS_MADE if self.in_blocks else FP8_MADE * item))
