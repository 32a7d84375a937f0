"""Put layers into one model instance, and take them out again; the model's class is never touched."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn


class Change(Protocol):
    """Something done to a model that can be undone."""

    def apply(self, stack: ExitStack) -> None:
        """Do it, and leave on the stack how to undo it."""


@dataclass(frozen=True)
class Swap:
    """`owner.name` becomes `new`."""

    owner: nn.Module
    name: str
    new: Any

    def apply(self, stack: ExitStack) -> None:
        stack.callback(setattr, self.owner, self.name, getattr(self.owner, self.name))
        setattr(self.owner, self.name, self.new)


@contextmanager
def patched(changes: Iterable[Change]) -> Iterator[None]:
    """Apply the changes inside a `with`, and undo them in reverse order however it ends."""
    with ExitStack() as stack:
        for change in changes:
            change.apply(stack)
        yield
