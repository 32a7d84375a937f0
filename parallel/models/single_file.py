"""A part from one file of ComfyUI's kind: its weights under diffusers' names, complete or not at all, quantized ones as they are."""

from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from torch import nn

from ..families import single_file
from ..families.quantization import Weight
from ..families.single_file import SingleFile
from ..families.tensor_file import Entry
from ..families.weight_files import check_complete
from ..job.errors import JobRefused
from ..layers.held import HeldLinear
from ..maths.dequantize import KINDS, from_blocks, from_fp8
from .spelling import T5_WORDS, spelled, tower_of

TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
BLOCKS_AT_A_TIME = 1 << 16


class MappedFile:
    """A file's bytes, mapped into memory: what ranks of a machine read of it they have together, and only while they need it."""

    def __init__(self, file: Path):
        self.bytes = torch.from_file(str(file), shared=False, size=file.stat().st_size, dtype=torch.uint8)

    def stored(self, entry: Entry) -> torch.Tensor:
        """Return a tensor as it is stored: numbers in its shape, or the bytes of blocks."""
        raw = self.bytes[entry.begin : entry.end]
        if entry.kind not in TYPES:
            return raw
        dtype = TYPES[entry.kind]
        if entry.begin % dtype.itemsize:  # a view must begin where its numbers may lie
            raw = raw.clone()
        return raw.view(dtype).view(entry.shape)

    def numbers(self, weight: Weight, dtype: torch.dtype) -> torch.Tensor:
        """Return a weight's numbers in a type."""
        stored = self.stored(weight.entry)
        if weight.entry.kind not in TYPES:
            return _in_parts(stored, weight.entry, dtype)
        return from_fp8(stored, None if weight.scale is None else self.scale(weight.scale), dtype)

    def scale(self, entry: Entry) -> torch.Tensor:
        """Return a scale in float32: one number, or one a row."""
        scale = self.stored(entry).float().clone()
        return scale if entry.numbers > 1 else scale.reshape(())


def _in_parts(stored: torch.Tensor, entry: Entry, dtype: torch.dtype) -> torch.Tensor:
    """Return the numbers of blocks, some at a time: a table of words has a billion, which are wider while they are made."""
    _, size, _ = KINDS[entry.kind]
    made = torch.empty(entry.shape, dtype=dtype).flatten()
    begin = 0
    for blocks in stored.view(-1, size).split(BLOCKS_AT_A_TIME):
        numbers = from_blocks(blocks, entry.kind, (-1,), dtype)
        made[begin : begin + len(numbers)] = numbers
        begin += len(numbers)
    return made.view(entry.shape)


def load(kind: Any, part: SingleFile, dtype: torch.dtype) -> Any:
    """Return a model of a class of diffusers' or transformers' from a file, to be evaluated only; raise what `weights.load` does."""
    module, precise = _empty(kind, part, dtype)
    # A weight that has two names is wanted by both: tied parameters would else stay without.
    wanted = {name: tuple(parameter.shape) for name, parameter in module.named_parameters(remove_duplicate=False)}
    held = spelled(single_file.weights(single_file.read(part.file), part.kind), wanted, tower_of(kind))
    left = [name for name in held.keys() - wanted.keys() if not may_have(name)]
    check_complete(part.file, sorted(wanted.keys() - held.keys()), left, form="file")
    mapped, plain = MappedFile(part.file), {}
    for name, shape in wanted.items():
        weight, own = held[name], torch.float32 if any(word in name for word in precise) else dtype
        if weight.entry.shape != shape:
            raise JobRefused(f"{part}: {name}: wanted {list(shape)}, got {list(weight.entry.shape)}: get the file again")
        owner, _, leaf = name.rpartition(".")
        if weight.is_quantized and leaf == "weight" and isinstance(module.get_submodule(owner), nn.Linear):
            _hold(module, owner, mapped, weight, own)
        else:
            plain[name] = mapped.numbers(weight, own)
    module.load_state_dict(plain, strict=False, assign=True)
    _tie(module, {name: held[name].entry for name in plain})
    _count_positions(module)
    return module.eval().requires_grad_(False)


def may_have(name: str) -> bool:
    """Say whether a file may hold a weight that the model has no place for: diffusers and transformers leave it out, too."""
    return name.endswith(("norm_added_q.weight", "position_ids")) or name in T5_WORDS


def _tie(module: nn.Module, entries: dict[str, Entry]) -> None:
    """Have one parameter where a weight has two names, as a table of words has: some have 2 GB."""
    first: dict[Entry, str] = {}
    for name, entry in entries.items():
        of = first.setdefault(entry, name)
        if of != name:
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, module.get_parameter(of))


def _count_positions(module: nn.Module) -> None:
    """Make the buffer that no file holds of transformers' embeddings; of other buffers on the device `meta` the caller knows."""
    for owner in module.modules():
        found = getattr(owner, "position_ids", None)
        if found is not None and found.device.type == "meta":
            owner.position_ids = torch.arange(found.shape[-1]).expand(found.shape)


def _empty(kind: Any, part: SingleFile, dtype: torch.dtype) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a model without weights, and which it wants in float32."""
    keeps = tuple(getattr(kind, "_keep_in_fp32_modules", None) or ())
    with torch.device("meta"):
        if issubclass(kind, ModelMixin):
            return kind.from_config(part.config), keeps
        module = kind(kind.config_class(**{name: value for name, value in part.config.items() if name != "architectures"}))
    return module, keeps if dtype == torch.float16 else ()  # as transformers has it


def _hold(module: nn.Module, owner: str, mapped: MappedFile, weight: Weight, dtype: torch.dtype) -> None:
    """Put a layer that keeps its weight as it is into the place of a linear one."""
    linear = module.get_submodule(owner)
    assert isinstance(linear, nn.Linear)
    scale = None if weight.scale is None else mapped.scale(weight.scale)
    out, into = weight.entry.shape
    layer = HeldLinear(mapped.stored(weight.entry), weight.entry.kind, (out, into), dtype, scale=scale)
    layer.bias = linear.bias  # which comes with the others
    parent, _, name = owner.rpartition(".")
    setattr(module.get_submodule(parent), name, layer)
