"""Linear layers whose weights stay as their file has them, fp8 or blocks of GGUF, and become numbers while a layer is at work.

A 14B net in a job's type has 28 GB; as its file has it, 8 to 15. What runs is the layer that the same weights, made numbers when
they are loaded, would be.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

from ..maths.dequantize import KINDS, from_blocks, from_fp8


class HeldLinear(nn.Module):
    """Stands in for a `nn.Linear`. Its weight is a buffer and no parameter: whoever asks for a model's type asks its parameters."""

    stored: torch.Tensor
    scale: torch.Tensor | None

    def __init__(
        self,
        stored: torch.Tensor,
        kind: str,
        shape: tuple[int, int],
        dtype: torch.dtype,
        *,
        scale: torch.Tensor | None = None,
    ):
        """Take a weight's bytes as a file of a kind has them, or its fp8 numbers; `dtype` is that of `weight`."""
        super().__init__()
        self.out_features, self.in_features = shape
        self.kind, self.dtype = kind, dtype
        self.register_buffer("stored", stored)
        self.register_buffer("scale", scale)
        self.bias: nn.Parameter | None = None
        self.branches = nn.ModuleList()  # of LoRAs: what each adds
        self.ready: torch.Tensor | None = None  # the weight's numbers, while `unpacked` keeps them

    @property
    def weight(self) -> torch.Tensor:
        """The weight's numbers: made anew for each who asks."""
        return self.numbers(self.dtype)

    def numbers(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the weight's numbers in a type."""
        if self.kind in KINDS:
            return from_blocks(self.stored, self.kind, (self.out_features, self.in_features), dtype)
        return from_fp8(self.stored, self.scale, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the linear layer does, and what LoRAs add to it."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        ready = self.ready  # one look: another branch of guidance may put it away
        weight = self.numbers(x.dtype) if ready is None or ready.dtype != x.dtype else ready
        out = F.linear(x, weight, bias)
        for branch in self.branches:
            out = out + branch(x)
        return out


@contextmanager
def unpacked(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Keep the numbers of a module's held weights inside the block, in which it is called more than once."""
    held = [layer for layer in module.modules() if isinstance(layer, HeldLinear)]
    try:
        for layer in held:
            layer.ready = layer.numbers(dtype)
        yield
    finally:
        for layer in held:
            layer.ready = None


class Branch(nn.Module):
    """What a LoRA adds to a layer whose weight can't take it: up (down x), or a whole matrix; in float32 while it waits."""

    up: torch.Tensor
    down: torch.Tensor | None

    def __init__(self, up: torch.Tensor, down: torch.Tensor | None):
        super().__init__()
        self.register_buffer("up", up)
        self.register_buffer("down", down)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what is added to the layer's output."""
        inner = x if self.down is None else F.linear(x, self.down.to(x.dtype))
        return F.linear(inner, self.up.to(x.dtype))
