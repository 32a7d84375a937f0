"""Weights as files hold them -> numbers: fp8 with a scale, and the blocks of GGUF (as ggml's documentation of its types has them).

Blocks are computed in float32, in the order of the package gguf, and give its numbers to the last bit.
"""

from collections.abc import Callable

import torch
from einops import rearrange


def from_fp8(stored: torch.Tensor, scale: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """Return fp8 numbers in a type, times their scale, which is rounded to that type first: ComfyUI's order."""
    plain = stored.to(dtype)
    return plain if scale is None else plain * scale.to(dtype)


def from_blocks(stored: torch.Tensor, kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return the numbers of blocks of a kind, bytes in any shape, in a type and of a shape."""
    _, size, read = KINDS[kind]
    return read(stored.view(-1, size)).view(shape).to(dtype)


def _half(blocks: torch.Tensor, begin: int) -> torch.Tensor:
    """Return the 16-bit numbers at a byte of each block, float32 (blocks, 1)."""
    return blocks[:, begin : begin + 2].contiguous().view(torch.float16).float()


def _nibbles(data: torch.Tensor) -> torch.Tensor:
    """Return the low halves of some bytes, and behind them the high ones."""
    return torch.cat([data & 15, data >> 4], dim=-1)


def _fifth_bits(blocks: torch.Tensor, begin: int) -> torch.Tensor:
    """Return the bits of the four bytes there, each as 16 or 0, (blocks, 32)."""
    places = torch.arange(8, device=blocks.device, dtype=torch.uint8)
    bits = (blocks[:, begin : begin + 4, None] >> places) & 1
    return rearrange(bits, "n byte bit -> n (byte bit)") << 4


def _q8_0(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * blocks[:, 2:].contiguous().view(torch.int8).float()


def _q4_0(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]).float() - 8)


def _q4_1(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]).float() + _half(blocks, 2)


def _q5_0(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * ((_nibbles(blocks[:, 6:]) | _fifth_bits(blocks, 2)).float() - 16)


def _q5_1(blocks: torch.Tensor) -> torch.Tensor:
    return _half(blocks, 0) * (_nibbles(blocks[:, 8:]) | _fifth_bits(blocks, 4)).float() + _half(blocks, 2)


def _scales_of_k(packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the eight scales and eight minima, of 6 bits, in 12 bytes of Q4_K and Q5_K, float32 (blocks, 8)."""
    first, second, last = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = torch.cat([first & 63, (last & 15) | ((first >> 6) << 4)], dim=1)
    minima = torch.cat([second & 63, (last >> 4) | ((second >> 6) << 4)], dim=1)
    return scales.float(), minima.float()


def _k_blocks(blocks: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Return eight runs of 32 numbers (blocks, 8, 32), each by its scale and less its minimum."""
    scales, minima = _scales_of_k(blocks[:, 4:16])
    scaled = (_half(blocks, 0) * scales)[..., None] * numbers.float() - (_half(blocks, 2) * minima)[..., None]
    return rearrange(scaled, "n run number -> n (run number)")


def _k_nibbles(data: torch.Tensor) -> torch.Tensor:
    """Return eight runs of 32 numbers of 4 bits: two runs lie in the same 32 bytes, (blocks, 8, 32)."""
    pairs = rearrange(data, "n (pair byte) -> n pair 1 byte", pair=4)
    return rearrange(torch.cat([pairs & 15, pairs >> 4], dim=2), "n pair half byte -> n (pair half) byte")


def _q4_k(blocks: torch.Tensor) -> torch.Tensor:
    return _k_blocks(blocks, _k_nibbles(blocks[:, 16:]))


def _q5_k(blocks: torch.Tensor) -> torch.Tensor:
    places = torch.arange(8, device=blocks.device, dtype=torch.uint8)
    fifth = (blocks[:, None, 16:48] >> places[:, None]) & 1
    return _k_blocks(blocks, _k_nibbles(blocks[:, 48:]) | (fifth << 4))


def _q6_k(blocks: torch.Tensor) -> torch.Tensor:
    low = rearrange(blocks[:, :128], "n (half part byte) -> n half part byte", half=2, part=2)
    low = torch.cat([low & 15, low >> 4], dim=2)  # four runs of 32 a half
    places = torch.tensor([0, 2, 4, 6], device=blocks.device, dtype=torch.uint8)
    high = rearrange(blocks[:, 128:192], "n (half byte) -> n half 1 byte", half=2)
    numbers = (low | (((high >> places[:, None]) & 3) << 4)).to(torch.int8) - 32
    scales = _half(blocks, 208) * blocks[:, 192:208].contiguous().view(torch.int8).float()
    numbers = rearrange(numbers, "n half run (group number) -> n (half run group) number", group=2)
    return rearrange(scales[..., None] * numbers.float(), "n group number -> n (group number)")


# A kind of block: its numbers, its bytes, and what reads some of them, (blocks, bytes) -> (blocks, numbers).
KINDS: dict[str, tuple[int, int, Callable[[torch.Tensor], torch.Tensor]]] = {
    "Q4_0": (32, 18, _q4_0), "Q4_1": (32, 20, _q4_1), "Q5_0": (32, 22, _q5_0), "Q5_1": (32, 24, _q5_1), "Q8_0": (32, 34, _q8_0),
    "Q4_K": (256, 144, _q4_k), "Q5_K": (256, 176, _q5_k), "Q6_K": (256, 210, _q6_k),
}  # fmt: skip
