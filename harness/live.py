"""Peak memory of a piece of code as the bytes of tensors that live at once: exact, and the same on every machine.

On tensors of the device `meta` nothing is computed, and so a UNet call of any size can be measured; what it offloads
lies on the CPU then and does not count.
"""

import weakref
from collections.abc import Iterable

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from parallel.layers.offload import WaitingBlocks, tensors_of
from parallel.models.model import Model


class LiveBytes(TorchDispatchMode):
    """Count the bytes of tensors of one device type that are made inside the `with`, and remember the most.

    A view of what was there before would count, too: name such tensors as `known`.
    """

    def __init__(self, device: str = "cpu", known: Iterable[torch.Tensor] = ()):
        super().__init__()
        self.device = device
        self.known = {tensor.untyped_storage()._cdata for tensor in known}
        self.now = self.peak = 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.copy_.default and args[1].device.type == "meta" and args[0].device.type != "meta":
            return args[0]  # there are no numbers to copy
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == self.device:
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.sizes and key not in self.known:
            self.sizes[key] = storage.nbytes()
            self.now += self.sizes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)


def bytes_of(module: nn.Module) -> int:
    """Return the bytes of a module's weights."""
    return sum(tensor.nbytes for tensor in tensors_of(module))


def bytes_at_once(model: Model, net: nn.Module) -> int:
    """Return the bytes of a net that are on a device while its blocks wait in host memory: those around them, and a few slots."""
    blocks = model.blocks(net)
    waiting = WaitingBlocks(blocks, torch.device("cpu"))
    waiting.close()
    sizes = [bytes_of(block) for block in blocks]  # a slot has a little more, since tensors begin at round places
    return bytes_of(net) - sum(sizes) + len(waiting.slots) * max(sizes)
