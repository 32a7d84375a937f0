"""Hostile files of weights: each must be refused in words, in bounded memory, before anything of it is made."""

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from harness.wan_files import save

Written = tuple[str, Path]
NUMBERS = 64  # of a header that claims more than there is


def headed(header: object, data: bytes = b"") -> bytes:
    """Return a file of safetensors' form with a header."""
    said = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(said)) + said + data


def tensor(kind: str = "F32", shape: object = (4,), begin: object = 0, end: object = 16) -> dict:
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


def gguf(tensors: int = 0, keys: int = 0, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


def gguf_tensor(shape: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0, name: bytes = b"head.modulation") -> bytes:
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", kind, offset)


BYTES: dict[str, bytes] = {
    "empty": b"",
    "short": b"\0\0\0",
    "a header cut short": headed({"a": tensor()})[:-20],
    "a header longer than the file": struct.pack("<Q", 2**62) + b"{}",
    "no JSON": headed(b"x" * 50),
    "a list": headed([1, 2]),
    "JSON in JSON": headed(b"[" * 100_000),
    "no such type": headed({"a": tensor("evil")}, bytes(16)),
    "a shape that is none": headed({"a": tensor(shape="x")}, bytes(16)),
    "a negative shape": headed({"a": tensor(shape=[-4, -1])}, bytes(16)),
    "an absurd shape": headed({"a": tensor(shape=[2**39, 2**39])}, bytes(16)),
    "axes without end": headed({"a": tensor(shape=[1] * 10_000)}, bytes(16)),
    "overlapping tensors": headed({"a": tensor(), "b": tensor(begin=8, end=24)}, bytes(24)),
    "a tensor before the file": headed({"a": tensor(begin=-16, end=0)}, bytes(16)),
    "a tensor behind the file": headed({"a": tensor(begin=1 << 40, end=(1 << 40) + 16)}, bytes(16)),
    "offsets that are none": headed({"a": tensor(begin="0", end=[16])}, bytes(16)),
    "GGUF of no tensors": gguf(),
    "GGUF of 2^60 tensors": gguf(tensors=2**60),
    "GGUF of 2^60 keys": gguf(keys=2**60),
    "GGUF of another version": gguf(version=99),
    "GGUF with a name without end": gguf(tensors=1, rest=struct.pack("<Q", 2**63)),
    "GGUF with an array without end": gguf(keys=1, rest=struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", 9, 8, 2**62)),
    "GGUF with an array of arrays": gguf(keys=1, rest=struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", 9, 9, 10**6)),
    "GGUF of IQ2": gguf(tensors=1, rest=gguf_tensor((256,), kind=16)),
    "GGUF of a type without a name": gguf(tensors=1, rest=gguf_tensor(kind=10**6)),
    "GGUF with an absurd shape": gguf(tensors=1, rest=gguf_tensor((2**39, 2**39))),
    "GGUF of half a block": gguf(tensors=1, rest=gguf_tensor((100,), kind=12)),
    "GGUF with a tensor behind the file": gguf(tensors=1, rest=gguf_tensor(offset=2**60)),
    "a zip": b"PK\x03\x04" + bytes(100),
    "a git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
}  # fmt: skip


def files(net: dict[str, torch.Tensor], work: Path) -> Iterator[Written]:
    """Yield files, some of them made of a net's weights, by what is wrong with them."""
    for number, (what, data) in enumerate(BYTES.items()):
        place = work / f"{number}.safetensors"
        place.write_bytes(data)
        yield what, place
    yield "a header of 100 MB", _sparse(work / "long.safetensors", struct.pack("<Q", 100 << 20), (100 << 20) + 8)
    yield "a pickle", _sparse(work / "net.ckpt", b"\x80\x02", 100)
    yield "a link out", _link(work / "passwd.safetensors", "/etc/passwd")
    os.mkfifo(work / "pipe.safetensors")
    yield "a pipe", work / "pipe.safetensors"
    yield "a folder", work
    for number, (what, change) in enumerate(CHANGES.items()):
        changed = dict(net)
        change(changed)
        yield what, save(changed, work / f"changed-{number}.safetensors")


def _sparse(place: Path, data: bytes, size: int) -> Path:
    place.write_bytes(data)
    os.truncate(place, size)
    return place


def _link(place: Path, target: str) -> Path:
    place.symlink_to(target)
    return place


def _mark(**said: object) -> torch.Tensor:
    return torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)


LAYER = "blocks.0.self_attn.q"
CHANGES: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "no weight of the text": lambda net: net.pop("text_embedding.0.weight"),
    "a layer without end": lambda net: net.update({"blocks.999999999.modulation": torch.zeros(1)}),
    "a vector for a matrix": lambda net: net.update({"blocks.0.ffn.0.weight": torch.zeros(())}),
    "VACE": lambda net: net.update({"vace_patch_embedding.weight": torch.zeros(1)}),
    "an unknown layer": lambda net: net.update({"blocks.0.evil.weight": torch.zeros(1)}),
    "another width": lambda net: net.update({"patch_embedding.weight": torch.zeros(100, 16, 1, 2, 2)}),
    "nvfp4": lambda net: net.update({f"{LAYER}.weight_scale_2": torch.zeros(())}),
    "nvfp4 by its mark": lambda net: net.update({f"{LAYER}.comfy_quant": _mark(format="nvfp4")}),
    "a mark without end": lambda net: net.update({f"{LAYER}.comfy_quant": _mark(format="x" * 5000)}),
    "int8": lambda net: net.update({f"{LAYER}.weight": torch.zeros(256, 256, dtype=torch.int8)}),
    "a scale too many": lambda net: net.update({f"{LAYER}.scale_weight": torch.zeros(7)}),
    "a scale of nothing": lambda net: net.update({"evil.scale_weight": torch.zeros(1)}),
}  # fmt: skip
