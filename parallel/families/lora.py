"""A LoRA's file, in the spellings that people have: which layers of a net it changes, and how; read from its header alone.

diffusers and PEFT (`lora_A`, `lora_B`), kohya and musubi (`lora_unet_..._`, `lora_down`, `lora_up`, `alpha`), ComfyUI's
(`diffusion_model.`...), and whole differences (`diff`, `diff_b`). Other kinds are refused by name.
"""

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..job.errors import JobRefused
from ..job.files import Lora
from . import single_file
from .quantization import PLAIN
from .tensor_file import Entry, TensorFile

DOWN = (".lora_down.weight", ".lora_A.weight", ".lora_A.default.weight", ".lora.down.weight", "_lora.down.weight", ".lora_A")
UP = (".lora_up.weight", ".lora_B.weight", ".lora_B.default.weight", ".lora.up.weight", "_lora.up.weight", ".lora_B")
ENDINGS = {
    **dict.fromkeys(DOWN, "down"), **dict.fromkeys(UP, "up"), ".alpha": "alpha", ".diff": "diff", ".diff_b": "diff_b",
}  # fmt: skip
REFUSED = {
    ".hada_w1_a": "LoHa", ".lokr_w1": "LoKr", ".lokr_w1_a": "LoKr", ".oft_blocks": "OFT", ".oft_diag": "OFT", ".dora_scale": "DoRA",
    ".lora_magnitude_vector": "DoRA", ".lora_magnitude_vector.weight": "DoRA", ".lora_mid.weight": "LoCon (Tucker)",
    ".a1.weight": "GLoRA",
}  # fmt: skip
PREFIXES = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.", "unet.")
FLAT_PREFIXES = ("lora_unet__", "lora_unet_", "lora_transformer_", "lycoris_")  # before names in which dots are underscores
NAMED = 3  # keys that fit nothing, of which a notice gives the names
FORMS = {"F16": "<e", "F32": "<f", "F64": "<d"}


@dataclass(frozen=True)
class Target:
    """A layer that a LoRA may change: the parameters that `weight` and `bias` stand for, and the former's shape."""

    weight: str
    shape: tuple[int, ...]
    bias: str | None


@dataclass
class Addition:
    """What a LoRA adds to one layer: up times down, by alpha over their rank, or a whole difference."""

    down: Entry | None = None
    up: Entry | None = None
    alpha: float | None = None
    diff: Entry | None = None
    diff_b: Entry | None = None

    @property
    def scale(self) -> float:
        """What up times down is multiplied by."""
        assert self.down is not None
        return 1.0 if self.alpha is None else self.alpha / self.down.shape[0]


@dataclass(frozen=True)
class LoraFile:
    """What a LoRA changes of a net, by the names of its layers, and the keys that fit nothing there."""

    file: Path
    additions: dict[str, Addition] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)  # the layers that these are for
    unmatched: tuple[str, ...] = ()

    @property
    def notice(self) -> str | None:
        """What the user should know of keys that fit nothing; None if all fit."""
        if not self.unmatched:
            return None
        some = ", ".join(self.unmatched[:NAMED])
        return f"LoRA {self.file.name}: {len(self.unmatched)} keys fit nothing in this model and are left out, such as {some}"


def read(file: str, targets: Mapping[str, Target], spellings: Mapping[str, str]) -> LoraFile:
    """Return what a LoRA changes of a net with some layers, which `spellings` are other names of.

    Raises JobRefused if it is of a kind that this version does not know, fits nothing, or is of another size.
    """
    try:
        found = single_file.read(Path(file))
    except OSError as error:
        raise JobRefused(f"LoRA {file} can not be read ({error.strerror}): is it a whole file, and yours to read?") from None
    for name in found.entries:
        kind = next((kind for ending, kind in REFUSED.items() if name.endswith(ending)), None)
        if kind is not None:
            raise JobRefused(
                f"LoRA {file} is a {kind}, which this version does not know: use a plain LoRA, or merge it into the model"
            )
    flat = {spelling.replace(".", "_"): layer for spelling, layer in spellings.items()}
    additions: dict[str, Addition] = {}
    unmatched = []
    for name, entry in found.entries.items():
        ending = max((ending for ending in ENDINGS if name.endswith(ending)), key=len, default=None)
        layer = None if ending is None else _layer(name.removesuffix(ending), spellings, flat)
        if ending is None or layer is None or (ENDINGS[ending] == "diff_b" and targets[layer].bias is None):
            unmatched.append(name)
        else:
            _take(found, additions.setdefault(layer, Addition()), ENDINGS[ending], name, entry)
    if not additions:
        raise JobRefused(f"LoRA {file} has {len(unmatched)} keys, and none fits this model: use a LoRA of its family")
    sizes = {layer: _other_size(file, layer, addition, targets[layer].shape) for layer, addition in additions.items()}
    odd = {layer: size for layer, size in sizes.items() if size is not None}
    if 2 * len(odd) > len(additions):
        layer, size = next(iter(odd.items()))
        wanted = list(targets[layer].shape)
        raise JobRefused(
            f"LoRA {file} changes a {layer} of {list(size)}, this model's is {wanted}: use a LoRA of this model's size"
        )
    fitting = {layer: addition for layer, addition in additions.items() if layer not in odd}
    left_out = (*unmatched, *(f"{layer} (of another size)" for layer in odd))
    return LoraFile(Path(file), fitting, {layer: targets[layer] for layer in fitting}, left_out)


def remarks(loras: Iterable[Lora], read_of_net: Callable[[str], LoraFile], *, nets: int) -> list[str]:
    """Return what a plan says of LoRAs in a model of so many nets; raise JobRefused if one can't be put into it."""
    said = []
    for each in loras:
        if each.net == "low" and nets == 1:
            raise JobRefused(f"LoRA {each.file} is for the net for low noise, this model has one net: say all")
        found = read_of_net(each.file)
        where = {"all": "", "high": ", high noise", "low": ", low noise"}[each.net]
        said.append(f"LoRA: {Path(each.file).name} at {each.strength:g}{where}, {len(found.additions)} layers")
        said += [found.notice] if found.notice is not None else []
    return said


def _layer(stem: str, spellings: Mapping[str, str], flat: Mapping[str, str]) -> str | None:
    """Return the layer that a key without its ending names; None if it names none of the net's."""
    for prefix in FLAT_PREFIXES:
        if stem.startswith(prefix):
            return flat.get(stem.removeprefix(prefix))
    for prefix in PREFIXES:
        stem = stem.removeprefix(prefix)
    return spellings.get(stem)


def _take(found: TensorFile, addition: Addition, part: str, name: str, entry: Entry) -> None:
    if entry.kind not in PLAIN:
        raise JobRefused(
            f"LoRA {found.file} holds {entry.kind} ({name}), which this version can't read: use one in fp16, bf16 or fp32"
        )
    if part == "alpha":
        addition.alpha = _number(found, name, entry)
    else:
        setattr(addition, part, entry)


def _number(found: TensorFile, name: str, entry: Entry) -> float:
    """Return the one number in a tensor."""
    if entry.numbers != 1:
        raise JobRefused(f"LoRA {found.file}: {name}: wanted one number, got {list(entry.shape)}: get the file again")
    data = found.read_bytes(name, 8)
    if entry.kind == "BF16":
        return struct.unpack("<f", b"\0\0" + data)[0]
    return struct.unpack(FORMS[entry.kind], data)[0]


def _other_size(file: str, layer: str, addition: Addition, wanted: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the size of what an addition is for, None if that is the layer's; raise JobRefused if it is not whole."""
    up, down = addition.up, addition.down
    if (up is None) != (down is None):
        raise JobRefused(f"LoRA {file} has half of what changes {layer}: get the file again")
    if up is None and addition.diff is None and addition.diff_b is None:
        raise JobRefused(f"LoRA {file} has an alpha, and nothing else, for {layer}: get the file again")
    sizes = [] if addition.diff is None else [addition.diff.shape]
    if up is not None and down is not None:
        if not _is_pair(up.shape, down.shape):
            raise JobRefused(
                f"LoRA {file}: {layer}: {list(up.shape)} and {list(down.shape)} do not fit each other: get the file again"
            )
        sizes.append((up.shape[0], *down.shape[1:]))
    for size in sizes:
        if _without_ones(size) != _without_ones(wanted):
            return size
    bias = addition.diff_b
    return None if bias is None or bias.shape == wanted[:1] else bias.shape


def _is_pair(up: tuple[int, ...], down: tuple[int, ...]) -> bool:
    """Say whether two parts have a rank in common, and the first nothing but it and the layer's outputs."""
    if len(up) < 2 or len(down) < 2 or 0 in (*up, *down):
        return False
    return up[1] == down[0] and math.prod(up[2:]) == 1


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a weight's shape without axes of one number at its end: a linear layer, and a convolution of one pixel."""
    kept = list(shape)
    while len(kept) > 2 and kept[-1] == 1:
        kept.pop()
    return tuple(kept)
