"""Layers that never look across frames, run over some frames at a time."""

import inspect
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from ..maths.slices import Slices
from .activation import Activation, Joined
from .compiled import Compiler
from .conditioning import Conditioning

LIVE = 20  # numbers alive a number of the input, in the feed-forward of a spatial transformer
Rows = torch.Tensor | Activation | Joined


class OverFrames(nn.Module):
    """Stands in for a module whose batch is frames: its first argument is cut along them, and so are those named in `rows`.

    All others go whole, of whatever size they are. Takes a tensor or an activation. What it returns is read `reads` times, and
    waits between in host memory with `offload`; 0 reads stand for a plain tensor. `heads` are those of its attention, if it has any.
    """

    def __init__(
        self,
        module: nn.Module,
        slices: Slices,
        *,
        rows: Collection[str] = (),
        heads: int = 1,
        reads: int = 1,
        offload: bool = False,
        compiler: Compiler | None = None,
    ):
        super().__init__()
        self.names = list(inspect.signature(module.forward).parameters)
        unknown = set(rows) - set(self.names)
        assert not unknown, f"{type(module).__name__}.forward takes no {unknown}"
        self.module = module if compiler is None else compiler(module)
        self.slices, self.heads = slices, heads
        self.rows = frozenset(rows)
        self.reads, self.offload = reads, offload

    def forward(self, hidden_states: Rows, *args: Any, **kwargs: Any) -> Any:
        """Return what the module returns: a tensor, or a tuple of one."""
        frames = len(hidden_states)
        bytes_each = LIVE * hidden_states.shape[1:].numel() * hidden_states.dtype.itemsize
        named = list(zip(self.names[1:], args))
        out, bare = None, True
        for cut in self.slices.over_frames(frames, bytes_each, heads=self.heads):
            first = _cut(hidden_states, cut, frames)
            some = [self._part(name, value, cut, frames) for name, value in named]
            part = self.module(first, *some, **{name: self._part(name, value, cut, frames) for name, value in kwargs.items()})
            bare = isinstance(part, torch.Tensor)
            part = part if bare else part[0]
            if out is None:
                out = part.new_empty(frames, *part.shape[1:])
            out[cut] = part
        assert out is not None
        if not isinstance(hidden_states, torch.Tensor):
            hidden_states.done()
        passed_on = Activation(out, reads=self.reads, offload=self.offload) if self.reads else out
        return passed_on if bare else (passed_on,)

    def _part(self, name: str, value: Any, cut: slice, frames: int) -> Any:
        """Return the part of a further argument that belongs to some frames."""
        return value if value is None or name not in self.rows else _cut(value, cut, frames)


def _cut(value: Rows | Conditioning, cut: slice, frames: int) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        return value.rows(cut)
    assert len(value) == frames, f"wanted a row a frame, {frames}, got {len(value)}"
    return value[cut]
