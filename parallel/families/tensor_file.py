"""The header of one file of weights: which tensors it holds, of which type and shape, and where their bytes lie.

Read without loading anything, and checked before anybody believes it: the file may come from anywhere.
"""

import json
import math
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..job.errors import JobRefused
from .safety import MAX_OWN_HEADER, check_pulled

ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F4": 0.5,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
MAX_TENSORS = 1 << 16
MAX_AXES = 8
BROKEN = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError, struct.error)


@dataclass(frozen=True)
class Entry:
    """A tensor in a file: its type by the file's own name, its shape, and its bytes, counted from the file's beginning."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class TensorFile:
    """What a file's header says."""

    file: Path
    entries: dict[str, Entry]
    metadata: dict[str, str] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)  # of the lists in its header, which are passed over

    def read_bytes(self, name: str, most: int) -> bytes:
        """Return the bytes of a small tensor; raise JobRefused if it has more than `most`."""
        entry = self.entries[name]
        if entry.end - entry.begin > most:
            raise JobRefused(
                f"{self.file}: {name} has {entry.end - entry.begin} bytes, wanted at most {most}: get the file again"
            )
        with self.file.open("rb") as opened:
            opened.seek(entry.begin)
            return opened.read(entry.end - entry.begin)


def read_safetensors(file: Path) -> TensorFile:
    """Return what a .safetensors file holds; raise JobRefused if it is cut short, none, or its tensors overlap."""
    check_regular(file)
    check_pulled(file)
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > min(MAX_OWN_HEADER, size):
                raise ValueError(f"its header claims {length} bytes, of a file of {size}")
            header = json.loads(opened.read(length))
        metadata = header.pop("__metadata__", None) or {}
        if len(header) > MAX_TENSORS:
            raise ValueError(f"it names {len(header)} tensors")
        entries = {name: _entry(name, said, 8 + length) for name, said in header.items()}
        check_layout(entries, begin=8 + length, size=size)
        return TensorFile(file, entries, {str(key): str(value) for key, value in metadata.items()})
    except BROKEN as error:
        raise JobRefused(f"{file} is cut short or broken ({error}): get the file again") from None


def _entry(name: str, said: dict[str, Any], begin: int) -> Entry:
    kind, shape, (first, stop) = said["dtype"], tuple(said["shape"]), said["data_offsets"]
    if kind not in ITEM_BYTES:
        raise ValueError(f"{name} is of the unknown type {str(kind)[:20]}")
    check_shape(name, shape)
    if not (isinstance(first, int) and isinstance(stop, int)) or stop - first != math.prod(shape) * ITEM_BYTES[kind]:
        raise ValueError(f"{name} of shape {list(shape)} does not fill its bytes")
    return Entry(kind, shape, begin + first, begin + stop)


def check_shape(name: str, shape: tuple[Any, ...]) -> None:
    """Raise ValueError unless a tensor's shape is one."""
    if len(shape) > MAX_AXES or not all(isinstance(size, int) and 0 <= size < 1 << 40 for size in shape):
        raise ValueError(f"{name[:100]} has the shape {str(list(shape))[:100]}")


def check_layout(entries: dict[str, Entry], *, begin: int, size: int) -> None:
    """Raise ValueError unless all tensors lie in the file, behind its header, and none in another."""
    end = begin
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin < end:
            raise ValueError(f"{name} lies in another tensor, or in the header")
        end = entry.end
    if end > size:
        raise ValueError(f"wanted {end} bytes, got {size}")


def check_regular(file: Path) -> None:
    """Raise JobRefused unless a path leads to a file, and not to a pipe or a device."""
    if not os.path.isfile(file):
        raise JobRefused(f"{file} is no file: give a .safetensors or .gguf file")
