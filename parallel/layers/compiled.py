"""Spatial layers through torch.compile, once for all of a kind, and an account of which ones were compiled.

torch keeps what it compiled with the code of `forward`, which all layers of a class share, and by default compiles that eight
times at most; then it runs the rest uncompiled, and only its log says so. VideoCrafter2's UNet has twelve kinds of
ResnetBlock2D.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._dynamo import exc

COMPILATIONS = 8  # of one kind: a single frame, or 64 and more, can each take one of their own
# The others have no base in common with the first; before torch 2.6 the limit had the last one's name.
NAMES = ("TorchDynamoException", "FailOnRecompileLimitHit", "FailOnCacheLimitHit")
FAILURES = tuple(getattr(exc, name) for name in NAMES if hasattr(exc, name))
LIMITS = ("recompile_limit", "accumulated_recompile_limit", "cache_size_limit", "accumulated_cache_size_limit")


@dataclass
class Kind:
    """Modules of one class and one size, which share what was compiled."""

    name: str
    modules: int = 0
    fault: str | None = None  # why they run uncompiled


class Compiler:
    """Compiles modules, each as a whole and for any number of frames. As a change to a model it gives torch room for all."""

    def __init__(self, backend: str | Callable = "inductor"):
        self.backend = backend
        self.kinds: dict[tuple, Kind] = {}

    def __call__(self, module: nn.Module) -> "Compiled":
        """Return what runs a module compiled, if torch can compile it."""
        sizes = tuple(parameter.shape for parameter in module.parameters())
        kind = self.kinds.setdefault((type(module), sizes), Kind(type(module).__name__))
        kind.modules += 1
        return Compiled(module, kind, self.backend)

    def apply(self, stack: ExitStack) -> None:
        """Raise the limits of torch's compiler until the stack is unwound."""
        config, wanted = torch._dynamo.config, COMPILATIONS * len(self.kinds)
        limits = {name: max(getattr(config, name), wanted) for name in LIMITS if hasattr(config, name)}
        stack.enter_context(config.patch(**limits))

    def account(self) -> str:
        """Return a sentence on what was compiled; ask when all modules have run."""
        kinds = list(self.kinds.values())
        failed = [kind for kind in kinds if kind.fault is not None]
        modules, uncompiled = (sum(kind.modules for kind in some) for some in (kinds, failed))
        if not failed:
            return f"compile: all {modules} spatial layers, of {len(kinds)} kinds, run compiled"
        reasons = "; ".join(sorted({f"{kind.name}: {kind.fault}" for kind in failed}))
        return (
            f"compile: {uncompiled} of {modules} spatial layers, {len(failed)} of {len(kinds)} kinds, run uncompiled, at their "
            f"usual speed ({reasons})"
        )


class Compiled(nn.Module):
    """Stands in for a module: through torch.compile until that fails for its kind, then as it is."""

    def __init__(self, module: nn.Module, kind: Kind, backend: str | Callable):
        super().__init__()
        self.module, self.kind = module, kind
        # With fullgraph a part that can't be compiled raises an error, instead of running uncompiled unsaid.
        self.compiled = torch.compile(module, dynamic=True, fullgraph=True, backend=backend)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module does."""
        if self.kind.fault is None:
            try:
                return self.compiled(*args, **kwargs)
            except FAILURES as error:
                self.kind.fault = _reason(error)
        return self.module(*args, **kwargs)


def _reason(error: Exception) -> str:
    """Return in a line what a failure to compile came from, without torch's advice on how to find out more."""
    source = error.__cause__ or error
    words = str(source).split("\n\n")[0].split()
    return f"{type(source).__name__}: {' '.join(words)}"[:200]
