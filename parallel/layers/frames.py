"""Layers that never look across frames, run over some frames at a time."""

from typing import Any

import torch
from torch import nn

from ..maths import slices

LIVE = 20  # numbers alive a number of the input, in the feed-forward of a spatial transformer


class OverFrames(nn.Module):
    """Stands in for a module whose batch is frames: what comes in with one row a frame is cut along with them."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return what the module returns: a tensor, or a tuple of one."""
        frames = len(hidden_states)
        bytes_each = LIVE * hidden_states[0].numel() * hidden_states.element_size()
        out, bare = None, True
        for cut in slices.over_frames(frames, bytes_each, hidden_states.device):
            some = [_cut(value, cut, frames) for value in (hidden_states, *args)]
            part = self.module(*some, **{name: _cut(value, cut, frames) for name, value in kwargs.items()})
            bare = isinstance(part, torch.Tensor)
            part = part if bare else part[0]
            if out is None:
                out = part.new_empty(frames, *part.shape[1:])
            out[cut] = part
        return out if bare else (out,)


class Hearing(OverFrames):
    """A spatial transformer that hears a prompt a frame, (B x F, L, D), in place of the video's one, repeated."""

    def __init__(self, transformer: nn.Module, embeddings_BFLD: torch.Tensor):
        super().__init__(transformer)
        self.embeddings_BFLD = embeddings_BFLD

    def forward(self, hidden_states: torch.Tensor, *, encoder_hidden_states: torch.Tensor, **kwargs: Any) -> Any:
        """Return what the transformer returns."""
        return super().forward(hidden_states, encoder_hidden_states=self.embeddings_BFLD.flatten(0, 1), **kwargs)


def _cut(value: Any, cut: slice, frames: int) -> Any:
    return value[cut] if isinstance(value, torch.Tensor) and len(value) == frames else value
