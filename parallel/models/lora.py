"""LoRAs in a model's nets: merged into weights that are plain, beside those that are quantized; taken out to the last bit."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ..families.lora import Addition, LoraFile, Target
from ..families.quantization import Weight
from ..families.tensor_file import Entry
from ..job.files import Lora
from ..layers.held import Branch, HeldLinear
from .single_file import MappedFile

Read = Callable[[str], LoraFile]  # a file -> what it changes of a net
Notify = Callable[[str], None]


class Adapters:
    """The LoRAs that are in a model's nets, and how to take them out: weights that were merged wait in host memory as they were."""

    def __init__(self) -> None:
        self._now: list[tuple[Lora, int]] = []  # with the time when its file was written
        self._undo = ExitStack()

    def put(
        self,
        nets: Sequence[nn.Module],
        loras: Sequence[Lora],
        *,
        read: Read,
        targets: Mapping[str, Target],
        device: torch.device,
        notify: Notify,
    ) -> None:
        """Have these LoRAs in the nets, in this order, and no others; nothing is loaded or changed if they are there already.

        `device` is where weights are merged, wherever they are. `notify` gets what of a LoRA fits nothing. Raises what `read` does.
        """
        found = {each.file: read(each.file) for each in loras}
        for each in found.values():
            if each.notice is not None:
                notify(each.notice)
        wanted = [(each, os.stat(each.file).st_mtime_ns) for each in loras]
        if wanted == self._now:
            return
        self.take_out()
        with ExitStack() as undo:
            for number, net in enumerate(nets):
                own = [each for each in loras if each.strength and each.net in ("all", ("high", "low")[number])]
                for layer, target in targets.items():
                    parts = [
                        Part(found[each.file], layer, each.strength) for each in own if layer in found[each.file].additions
                    ]
                    if parts:
                        _change(net, layer, target, parts, device, undo)
            self._undo, self._now = undo.pop_all(), wanted

    def take_out(self) -> None:
        """Have no LoRAs in the nets."""
        self._now = []
        self._undo.close()


class Part:
    """What one LoRA adds to a layer, at a strength."""

    def __init__(self, lora: LoraFile, layer: str, strength: float):
        self.mapped, self.strength = MappedFile(Path(lora.file)), strength
        self.addition: Addition = lora.additions[layer]

    def numbers(self, entry: Entry, device: torch.device) -> torch.Tensor:
        """Return a tensor of the file's in float32."""
        return self.mapped.numbers(Weight(entry), torch.float32).to(device)

    def weight(self, shape: torch.Size, device: torch.device) -> Iterable[torch.Tensor]:
        """Yield what is added to a weight of a shape, in float32."""
        addition = self.addition
        if addition.up is not None and addition.down is not None:
            up, down = self.numbers(addition.up, device), self.numbers(addition.down, device)
            yield (self.strength * addition.scale) * (up.flatten(1) @ down.flatten(1)).view(shape)
        if addition.diff is not None:
            yield self.strength * self.numbers(addition.diff, device).view(shape)

    def branches(self, dtype: torch.dtype, device: torch.device) -> Iterable[Branch]:
        """Yield the same as what is added to a layer's output."""
        addition = self.addition
        if addition.up is not None and addition.down is not None:
            up, down = self.numbers(addition.up, device), self.numbers(addition.down, device)
            scaled = (self.strength * addition.scale) * up.flatten(1)
            yield Branch(scaled.to(dtype), down.flatten(1).to(dtype))
        if addition.diff is not None:
            yield Branch((self.strength * self.numbers(addition.diff, device)).to(dtype), None)


def _change(net: nn.Module, layer: str, target: Target, parts: list[Part], device: torch.device, undo: ExitStack) -> None:
    """Put into one layer of a net what LoRAs add to it."""
    module = net.get_submodule(layer) if target.weight != layer else None
    if isinstance(module, HeldLinear):
        undo.callback(setattr, module, "branches", module.branches)
        made = [branch for part in parts for branch in part.branches(module.dtype, module.stored.device)]
        module.branches = nn.ModuleList([*module.branches, *made])
    else:
        _merge(
            net, target.weight, lambda shape: (delta for part in parts for delta in part.weight(shape, device)), device, undo
        )
    biases = [part for part in parts if part.addition.diff_b is not None]
    if biases and target.bias is not None:
        _merge(net, target.bias, lambda shape: map(partial(_bias, device=device), biases), device, undo)


def _bias(part: Part, *, device: torch.device) -> torch.Tensor:
    assert part.addition.diff_b is not None
    return part.strength * part.numbers(part.addition.diff_b, device)


def _merge(
    net: nn.Module, name: str, deltas: Callable[[torch.Size], Iterable[torch.Tensor]], device: torch.device, undo: ExitStack
) -> None:
    """Add to a parameter, in float32, rounded once."""
    parameter = net.get_parameter(name)
    merged = parameter.data.to(device, torch.float32, copy=True)
    for delta in deltas(parameter.shape):
        merged += delta
    undo.callback(_restore, parameter, parameter.data.cpu())
    parameter.data = merged.to(parameter.device, parameter.dtype)


def _restore(parameter: nn.Parameter, before: torch.Tensor) -> None:
    parameter.data = before.to(parameter.device)
