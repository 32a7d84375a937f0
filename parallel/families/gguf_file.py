"""The header of a GGUF file, as ggml's documentation of the format has it (versions 2 and 3, little-endian)."""

import math
import struct
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..job.errors import JobRefused
from .tensor_file import BROKEN, MAX_AXES, MAX_TENSORS, Entry, TensorFile, check_layout, check_regular, check_shape

MAGIC = b"GGUF"
# ggml's number of a type -> its name, the numbers of a block, and its bytes. Others are refused by name.
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210),
}  # fmt: skip
BLOCKS = {name: (numbers, size) for name, numbers, size in TYPES.values() if numbers > 1}
OTHERS = {
    10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
MAX_BYTES = 64 << 20  # of a header: one with a vocabulary has some 10 MB
MAX_NAME, MAX_KEYS = 1 << 10, 1 << 12
ORIGINAL_SHAPE = "comfy.gguf.orig_shape."  # of a tensor that was given another one to be quantized
MAX_ALIGNMENT = 1 << 16


def is_gguf(file: Path) -> bool:
    """Say whether a file begins as a GGUF file does."""
    check_regular(file)
    with file.open("rb") as opened:
        return opened.read(len(MAGIC)) == MAGIC


def read_gguf(file: Path) -> TensorFile:
    """Return what a GGUF file holds; raise JobRefused if it is cut short, none, or of types that this version can't read."""
    check_regular(file)
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            reader = Reader(opened, min(size, MAX_BYTES))
            return _read(file, reader, size)
    except BROKEN as error:
        raise JobRefused(f"{file} is cut short or broken ({error}): get the file again") from None


class Reader:
    """Reads a header's numbers and texts, and no more bytes than it may have."""

    def __init__(self, opened: BinaryIO, most: int):
        self.opened, self.most = opened, most

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        if not 0 <= count <= self.most - self.opened.tell():
            raise ValueError(f"its header claims {count} bytes more than there can be")
        return self.opened.read(count)

    def number(self, form: str) -> Any:
        """Return the next number, of a form of the module struct's."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self, most: int) -> str:
        """Return the next text."""
        length = self.number("<Q")
        if length > most:
            raise ValueError(f"a name of {length} bytes")
        return self.take(length).decode("utf-8", errors="replace")

    def value(self, kind: int, *, keeps: bool) -> Any:
        """Return the next value of a kind: of an array a list, of texts as bytes, or unless `keeps` its length alone."""
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.text(self.most)
        if kind != ARRAY:
            raise ValueError(f"a value of the unknown kind {kind}")
        inner, count = self.number("<I"), self.number("<Q")
        if inner in SCALARS:
            data = self.take(count * struct.calcsize(SCALARS[inner]))
            return [value for (value,) in struct.iter_unpack(SCALARS[inner], data)] if keeps else Length(count)
        if inner != STRING or count > self.most:
            raise ValueError(f"an array of {count} values of kind {inner}")
        return self._texts(count) if keeps else Length(len(self._texts(count)))

    def _texts(self, count: int) -> list[bytes]:
        """Return the next texts: a vocabulary has 256,000, and `take` would ask for each where it is."""
        left, texts = self.most - self.opened.tell(), []
        for _ in range(count):
            length = int.from_bytes(self.opened.read(8), "little")
            left -= 8 + length
            if left < 0:
                raise ValueError(f"its header claims {-left} bytes more than there can be")
            texts.append(self.opened.read(length))
        return texts


@dataclass(frozen=True)
class Length:
    """Of an array that was passed over."""

    count: int


def read_values(file: Path, names: Container[str]) -> dict[str, Any]:
    """Return some of what a GGUF file says beside its tensors: numbers, texts, and lists; raise what `read_gguf` does."""
    try:
        with file.open("rb") as opened:
            reader = Reader(opened, min(file.stat().st_size, MAX_BYTES))
            _, keys = _begin(reader)
            said = _values(reader, keys, keeps=lambda name: name in names)
    except BROKEN as error:
        raise JobRefused(f"{file} is cut short or broken ({error}): get the file again") from None
    return {name: value for name, value in said.items() if name in names}


def _begin(reader: Reader) -> tuple[int, int]:
    """Return how many tensors and values a file claims."""
    magic, version = reader.take(4), reader.number("<I")
    if magic != MAGIC or version not in (2, 3):
        raise ValueError(f"wanted GGUF of version 2 or 3, got {magic!r} of {version}")
    tensors, keys = reader.number("<Q"), reader.number("<Q")
    if tensors > MAX_TENSORS or keys > MAX_KEYS:
        raise ValueError(f"it claims {tensors} tensors and {keys} keys")
    return tensors, keys


def _values(reader: Reader, keys: int, *, keeps: Callable[[str], bool]) -> dict[str, Any]:
    said = {}
    for _ in range(keys):
        name, kind = reader.text(MAX_NAME), reader.number("<I")
        said[name] = reader.value(kind, keeps=keeps(name))
    return said


def _read(file: Path, reader: Reader, size: int) -> TensorFile:
    tensors, keys = _begin(reader)
    said = _values(reader, keys, keeps=lambda name: name.startswith(ORIGINAL_SHAPE))
    claimed = [_claim(reader) for _ in range(tensors)]
    alignment = said.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= MAX_ALIGNMENT:
        raise ValueError(f"an alignment of {alignment!r:.20}")
    begin = -(-reader.opened.tell() // alignment) * alignment
    entries = {}
    for name, shape, kind, offset in claimed:
        if name in entries:
            raise ValueError(f"{name} is there twice")
        entries[name] = _entry(file, name, tuple(said.get(ORIGINAL_SHAPE + name) or shape), shape, kind, begin + offset)
    check_layout(entries, begin=begin, size=size)
    lengths = {name: value.count for name, value in said.items() if isinstance(value, Length)}
    plain = {name: str(value) for name, value in said.items() if isinstance(value, (str, int, float))}
    return TensorFile(file, entries, plain, lengths)


def _claim(reader: Reader) -> tuple[str, tuple[int, ...], int, int]:
    name, axes = reader.text(MAX_NAME), reader.number("<I")
    if axes > MAX_AXES:
        raise ValueError(f"{name} has {axes} axes")
    shape = tuple(reader.number("<Q") for _ in range(axes))[::-1]  # ggml counts axes from the innermost
    check_shape(name, shape)
    return name, shape, reader.number("<I"), reader.number("<Q")


def _entry(file: Path, name: str, original: tuple[int, ...], shape: tuple[int, ...], kind: int, begin: int) -> Entry:
    if kind not in TYPES:
        known = ", ".join(found for found, _, _ in TYPES.values())
        raise JobRefused(
            f"{file} holds {OTHERS.get(kind, f'weights of type {kind}')}, which this version can't read: use {known}"
        )
    named, numbers, size = TYPES[kind]
    count = math.prod(shape)
    check_shape(name, original)
    if math.prod(original) != count or (shape and shape[-1] % numbers):
        raise ValueError(f"{name} of shape {list(original)} is no whole number of blocks of {named}")
    return Entry(named, original, begin, begin + count // numbers * size)
