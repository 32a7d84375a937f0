"""Interrupt: stop a rank in the middle of a part of the model, where no other rank waits for it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from ..job.errors import Stopped

ASK_SECONDS = 0.1  # asking takes longer than a small layer


@contextmanager
def interruptible(part: nn.Module, stopping: Callable[[], bool]) -> Iterator[None]:
    """Have a part of the model raise Stopped between two of its layers, inside the block, once `stopping` says so.

    Not for what exchanges frames: there all ranks must agree to stop.
    """
    asked = time.monotonic()

    def ask(*_) -> None:
        nonlocal asked
        if time.monotonic() - asked > ASK_SECONDS:
            asked = time.monotonic()
            if stopping():
                raise Stopped("stopped between two layers")

    hooks = [layer.register_forward_pre_hook(ask) for layer in part.modules() if not any(layer.children())]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
