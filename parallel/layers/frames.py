"""Layers that never look across frames, run over some frames at a time."""

from typing import Any

import torch
from torch import nn

from ..maths.slices import Slices
from .activation import Activation, Joined
from .heard import Heard

LIVE = 20  # numbers alive a number of the input, in the feed-forward of a spatial transformer
Rows = torch.Tensor | Activation | Joined


class OverFrames(nn.Module):
    """Stands in for a module whose batch is frames: what comes in with one row a frame is cut along with them.

    Takes a tensor or an activation. What it returns is read `reads` times, and parked between with `park`; 0 reads stand for
    a plain tensor.
    """

    def __init__(self, module: nn.Module, slices: Slices, *, reads: int = 1, park: bool = False):
        super().__init__()
        self.module, self.slices = module, slices
        self.reads, self.park = reads, park

    def forward(self, hidden_states: Rows, *args: Any, **kwargs: Any) -> Any:
        """Return what the module returns: a tensor, or a tuple of one."""
        frames = len(hidden_states)
        bytes_each = LIVE * hidden_states.shape[1:].numel() * hidden_states.dtype.itemsize
        out, bare = None, True
        for cut in self.slices.over_frames(frames, bytes_each):
            some = [_cut(value, cut, frames) for value in (hidden_states, *args)]
            part = self.module(*some, **{name: _cut(value, cut, frames) for name, value in kwargs.items()})
            bare = isinstance(part, torch.Tensor)
            part = part if bare else part[0]
            if out is None:
                out = part.new_empty(frames, *part.shape[1:])
            out[cut] = part
        assert out is not None
        if not isinstance(hidden_states, torch.Tensor):
            hidden_states.done()
        passed_on = Activation(out, reads=self.reads, park=self.park) if self.reads else out
        return passed_on if bare else (passed_on,)


def _cut(value: Any, cut: slice, frames: int) -> Any:
    if isinstance(value, (Activation, Joined, Heard)):
        return value.rows(cut)
    return value[cut] if isinstance(value, torch.Tensor) and len(value) == frames else value
