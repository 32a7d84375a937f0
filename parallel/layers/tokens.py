"""Layers that treat every token alike, run over some tokens at a time."""

from contextlib import nullcontext

import torch
from torch import nn

from ..maths.slices import Slices
from .held import unpacked


class OverTokens(nn.Module):
    """Stands in for a module on tokens (B, S, D), whose output has the same shape; `width` numbers of a token are alive inside."""

    def __init__(self, module: nn.Module, slices: Slices, *, width: int):
        super().__init__()
        self.module, self.slices, self.width = module, slices, width

    def forward(self, x_BSD: torch.Tensor) -> torch.Tensor:
        """Return what the module returns."""
        bytes_each = 2 * len(x_BSD) * self.width * x_BSD.element_size()
        out = torch.empty_like(x_BSD)
        cuts = list(self.slices.over_pixels(x_BSD.shape[1], bytes_each))
        with unpacked(self.module, x_BSD.dtype) if len(cuts) > 1 else nullcontext():
            for cut in cuts:
                out[:, cut] = self.module(x_BSD[:, cut])
        return out
