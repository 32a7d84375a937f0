"""What flows between a UNet's layers in place of a tensor, and is freed when it was read as often as it will be.

diffusers' forwards keep a name for every tensor until they return, and join a skip tensor with what came from below by a copy
of both. Through handles they free each tensor as soon as its last reader is through, join without a copy, and a skip tensor
can wait for its second reader in host memory.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch


class Activation:
    """A tensor (B x F, C, H, W) that is read `reads` times; with `offload` it waits in host memory after the first."""

    def __init__(self, tensor: torch.Tensor, *, reads: int = 1, offload: bool = False):
        self.tensor: torch.Tensor | None = tensor
        self.shape, self.dtype, self.device = tensor.shape, tensor.dtype, tensor.device
        self.reads, self.offload = reads, offload

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, cut: slice) -> torch.Tensor:
        """Return some frames, on the device. When all are read, call `done`."""
        assert self.tensor is not None, "read more often than was said"
        return self.tensor[cut].to(self.device, non_blocking=True)

    def done(self) -> None:
        """One reader is through."""
        self.reads -= 1
        if self.reads == 0:
            self.tensor = None
        elif self.offload and self.tensor is not None and self.tensor.device == self.device:
            host = torch.empty(self.shape, dtype=self.dtype, pin_memory=self.device.type == "cuda")
            self.tensor = host.copy_(self.tensor, non_blocking=True)  # only `rows` reads it, on the same stream

    def take(self) -> tuple[torch.Tensor, bool]:
        """Return all of it, and whether nobody else will read it, so that it may be written over."""
        whole, last = self.rows(slice(None)), self.reads == 1
        self.done()
        return whole, last

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> "Joined":
        assert function is torch.cat and (kwargs or {}).get("dim", args[-1]) == 1, "diffusers' blocks only join channels"
        return Joined(*args[0])


class Joined:
    """Activations joined along their channels, a slice at a time."""

    def __init__(self, *parts: Activation):
        self.parts = parts
        first = parts[0]
        self.dtype, self.device = first.dtype, first.device
        self.shape = torch.Size([first.shape[0], sum(part.shape[1] for part in parts), *first.shape[2:]])

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, cut: slice) -> torch.Tensor:
        """Return some frames."""
        return torch.cat([part.rows(cut) for part in self.parts], dim=1)

    def done(self) -> None:
        """The reader is through."""
        for part in self.parts:
            part.done()


@dataclass(frozen=True)
class PinnedMemory:
    """As a change to a model: when it is undone, the pinned memory that tensors waited in goes back to the system.

    torch would keep it for the life of the process, of use to nobody else. Old versions of it know no way to give it back.
    """

    device: torch.device

    def apply(self, stack: ExitStack) -> None:
        """Leave on the stack what gives it back."""
        empty = getattr(getattr(torch, "accelerator", None), "empty_host_cache", None)
        if self.device.type == "cuda" and empty is not None:
            stack.callback(empty)
