"""What the LoRAs of a net take in memory: side branches beside weights that are held, and merged weights as they were before."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod

from ..job.files import Lora
from .held_weight import HeldWeight
from .lora import Addition, LoraFile

NETS = ("high", "low")  # in the order of their work


@dataclass(frozen=True)
class LoraBytes:
    """Of all LoRAs in one net."""

    beside: Mapping[str, int] = field(default_factory=dict)  # with the weights, by layer
    before: int = 0  # in host memory, to be put back

    @property
    def branches(self) -> int:
        """All that is beside weights."""
        return sum(self.beside.values())


def count(
    loras: Iterable[Lora], read: Callable[[str], LoraFile], *, net: int, held: Mapping[str, HeldWeight], item: int
) -> LoraBytes:
    """Return what LoRAs take in a net, by its number, in a type of so many bytes a number; raise what `read` does."""
    beside: Counter[str] = Counter()
    merged: dict[str, int] = {}  # parameters, and their numbers
    for lora in loras:
        if not lora.strength or lora.net not in ("all", NETS[net]):
            continue
        found = read(lora.file)
        for layer, addition in found.additions.items():
            target = found.targets[layer]
            if target.weight in held:
                beside[layer] += item * _numbers(addition)
            else:
                merged[target.weight] = prod(target.shape)
            if addition.diff_b is not None and target.bias is not None:
                merged[target.bias] = target.shape[0]
    return LoraBytes(beside, item * sum(merged.values()))


def _numbers(addition: Addition) -> int:
    """Return how many numbers a side branch has."""
    return sum(entry.numbers for entry in (addition.up, addition.down, addition.diff) if entry is not None)
