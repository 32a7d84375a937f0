"""Reuse across steps: on some steps only the outermost blocks run, on what the deep ones made last.

The idea of DeepCache (arXiv 2312.00858) and of Streamlined Inference's step rehash: deep features change slowly between
steps. Unlike an exact step it changes the video.
"""

from typing import Any

import torch
from torch import nn

from .activation import Activation
from .call import Call


def reuses(step: int, *, begin: int, every: int) -> bool:
    """Say whether a step (from 0) runs the outermost blocks only; the first of a run, `begin`, has nothing to reuse."""
    return step != begin and step % every != 0


class Deep(nn.Module):
    """Stands in for a block that does not run on a step that reuses: what comes in goes on, as it is.

    Its skip tensors then have no reader, for the blocks that would read them do not run either.
    """

    def __init__(self, block: nn.Module, call: Call):
        super().__init__()
        self.block, self.call = block, call
        self.resnets = block.resnets  # the UNet counts them
        self.has_cross_attention = getattr(block, "has_cross_attention", False)

    def forward(self, hidden_states: Activation, *args: Any, **kwargs: Any) -> Any:
        """Return what the block does, or its input."""
        if self.call.outermost_only:
            return self.bypass(hidden_states)
        return self.block(hidden_states, *args, **kwargs)

    def bypass(self, hidden_states: Activation) -> Any:
        """Return the input in the form of the block's output."""
        return hidden_states


class DeepDown(Deep):
    """A block on the way down, which also returns skip tensors, `skips` of them."""

    def __init__(self, block: nn.Module, call: Call, skips: int):
        super().__init__(block, call)
        self.skips = skips

    def bypass(self, hidden_states: Activation) -> Any:
        """Return the input, also in place of each skip tensor."""
        return hidden_states, (hidden_states,) * self.skips


class DeepLast(Deep):
    """The last deep block on the way up, whose output the steps after it reuse: one for each UNet call of a step."""

    def __init__(self, block: nn.Module, call: Call):
        super().__init__(block, call)
        self.outputs: dict[int, torch.Tensor] = {}

    def forward(self, hidden_states: Activation, *args: Any, **kwargs: Any) -> Any:
        """Return the block's output, of this step or of the last one that ran it."""
        if self.call.outermost_only:
            return Activation(self.outputs[self.call.number])
        out = self.block(hidden_states, *args, **kwargs)
        assert out.tensor is not None
        self.outputs[self.call.number] = out.tensor
        return out
