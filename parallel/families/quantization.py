"""Weights and their scales in one file: plain, fp8, the three spellings of scaled fp8, and blocks of GGUF; others are refused by name.

Scaled fp8 is spelled `scaled_fp8` with `.scale_weight`, or `.comfy_quant` with `.weight_scale`, or has `_quantization_metadata` in
its header in place of the former. Input scales are for kernels that multiply in fp8: here activations stay in the job's type.
"""

import json
from dataclasses import dataclass
from typing import Any

from ..job.errors import JobRefused
from .gguf_file import BLOCKS
from .tensor_file import BROKEN, Entry, TensorFile

FP8 = ("F8_E4M3", "F8_E5M2")
PLAIN = ("F64", "F32", "F16", "BF16")
FORMATS = ("float8_e4m3fn", "float8_e5m2")  # of those that ComfyUI has names for
METADATA = "_quantization_metadata"
MARK, LAYER_MARK = "scaled_fp8", ".comfy_quant"
SCALES, INPUT_SCALES = (".scale_weight", ".weight_scale"), (".scale_input", ".input_scale")
OTHERS = {
    ".weight_scale_2": "nvfp4",
    ".pre_quant_scale": "nvfp4 (AWQ)",
    ".absmax": "bitsandbytes' 4 bits",
    ".qweight": "GPTQ or AWQ",
}
MAX_MARK = 1 << 12  # bytes that say how a layer is quantized
USE_INSTEAD = "use a file in bf16, fp16, fp8 (scaled or not), or GGUF (Q4_K to Q8_0)"


@dataclass(frozen=True)
class Weight:
    """A weight as its file has it, and what its numbers are to be multiplied by."""

    entry: Entry
    scale: Entry | None = None

    @property
    def is_quantized(self) -> bool:
        """Whether it takes less room than in a job's type, and so stays as it is until a layer wants it."""
        return self.entry.kind in FP8 or self.entry.kind in BLOCKS


def read_weights(found: TensorFile, prefix: str) -> dict[str, Weight]:
    """Return the weights whose names begin with a prefix, by their names without it; raise JobRefused if they can't be read."""
    own = {name.removeprefix(prefix): entry for name, entry in found.entries.items() if name.startswith(prefix)}
    for ending, kind in OTHERS.items():
        if any(name.endswith(ending) for name in own):
            raise JobRefused(f"{found.file} is quantized as {kind}, which this version can't read: {USE_INSTEAD}")
    _check_formats(found, [prefix + name for name in own if name.endswith(LAYER_MARK)])
    scales = {name.removesuffix(ending): entry for name, entry in own.items() for ending in SCALES if name.endswith(ending)}
    weights = {}
    for name, entry in own.items():
        if name == MARK or name.endswith((LAYER_MARK, *SCALES, *INPUT_SCALES)):
            continue
        if entry.kind not in (*PLAIN, *FP8, *BLOCKS):
            raise JobRefused(f"{found.file} holds {entry.kind} ({name}), which this version can't read: {USE_INSTEAD}")
        scale = scales.pop(name.removesuffix(".weight"), None) if name.endswith(".weight") else None
        if scale is not None:
            _check_scale(found, name, entry, scale)
        weights[name] = Weight(entry, scale)
    if scales:
        raise JobRefused(f"{found.file} has a scale, but no weight, of {min(scales)}: get the file again")
    return weights


def _check_formats(found: TensorFile, marks: list[str]) -> None:
    try:
        said = json.loads(found.metadata.get(METADATA, "{}"))
        layers = list(said.get("layers", {}).values())
        layers += [json.loads(found.read_bytes(mark, MAX_MARK)) for mark in marks]
        formats = {_format_of(layer) for layer in layers}
    except BROKEN as error:
        raise JobRefused(f"{found.file} says in no JSON how it is quantized ({error}): get the file again") from None
    for other in sorted(formats - set(FORMATS)):
        raise JobRefused(f"{found.file} is quantized as {other:.40}, which this version can't read: {USE_INSTEAD}")


def _format_of(layer: dict[str, Any]) -> str:
    return str(layer["format"])


def _check_scale(found: TensorFile, name: str, entry: Entry, scale: Entry) -> None:
    if scale.kind not in PLAIN:
        raise JobRefused(
            f"{found.file} scales {name} by numbers in {scale.kind} (mxfp8?), which this version can't read: {USE_INSTEAD}"
        )
    if scale.numbers != 1 and scale.shape != (entry.shape[0], 1):
        raise JobRefused(f"{found.file} scales {name} by {list(scale.shape)} numbers: wanted one, or one a row: {USE_INSTEAD}")
