"""A net in GGUF, written with the package gguf: random blocks of a kind, and the numbers that the package reads out of them."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import torch

Weights = dict[str, torch.Tensor]
KINDS = ("F16", "BF16", "Q8_0", "Q4_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")
HALVES = {"Q6_K": (208,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q5_1": (0, 2)}  # where a block has its 16-bit scales; others: at 0


def save(weights: Weights, file: Path, kinds: Sequence[str]) -> tuple[Path, Weights]:
    """Write a net of which matrices are of some kinds in turn, and all else is in float32; return the file, and its numbers."""
    writer = gguf.GGUFWriter(str(file), "wan")
    random, turns = np.random.default_rng(0), itertools.cycle(gguf.GGMLQuantizationType[kind] for kind in kinds)
    numbers = {}
    for name, weight in weights.items():
        if weight.ndim == 2 and name.startswith("blocks.") and name.endswith(".weight"):
            named = next(turns)
            raw = _raw(weight, named, random)
            writer.add_tensor(name, raw, raw_dtype=named)
            numbers[name] = torch.from_numpy(gguf.quants.dequantize(raw, named).reshape(weight.shape))
        else:
            writer.add_tensor(name, weight.float().contiguous().numpy())
            numbers[name] = weight.float()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file, numbers


def _raw(weight: torch.Tensor, kind: gguf.GGMLQuantizationType, random: np.random.Generator) -> np.ndarray:
    if kind.name in ("F16", "BF16", "Q8_0", "Q4_0", "Q5_1"):
        return gguf.quants.quantize(weight.float().numpy(), kind)
    per, size = gguf.GGML_QUANT_SIZES[kind]  # the package can't write these: any bytes are a block, but for its scales
    blocks = random.integers(0, 256, (weight.numel() // per, size), dtype=np.uint8)
    for place in HALVES[kind.name]:
        scale = random.normal(0, 3e-4, (len(blocks), 1)).astype(np.float16)
        blocks[:, place : place + 2] = scale.view(np.uint8)
    return blocks.reshape(weight.shape[0], -1)
