"""Noise by frame number: what a frame starts from depends on the seed and its place in the video, never on the cut."""

from collections.abc import Iterable

import torch

START = 0  # the draw that a video begins with; the noise of step i is draw i + 1


def generators(seed: int, frames: Iterable[int], draw: int) -> list[torch.Generator]:
    """Return one generator a frame. Within a draw, no two frames share a state.

    torch seeds its Mersenne twister with 32 bits, so frame numbers are spread over all 2^32 seeds by a bijection rather
    than by a hash, which would let frames of a long video collide.
    """
    key = _mix64(_mix64(seed) + draw) & 0xFFFFFFFF
    return [torch.Generator().manual_seed(_mix32(frame ^ key)) for frame in frames]


def draw_frames(seed: int, frames: Iterable[int], shape_CHW: tuple[int, int, int]) -> torch.Tensor:
    """Return standard normal starting noise for some frames, float32 (1, C, F, H, W), drawn on the CPU."""
    noise = [torch.randn(shape_CHW, generator=generator) for generator in generators(seed, frames, START)]
    return torch.stack(noise, dim=1)[None]


def _mix64(value: int) -> int:
    """SplitMix64's finalizer (Steele et al. 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & (2**64 - 1)
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return value ^ (value >> 31)


def _mix32(value: int) -> int:
    """MurmurHash3's 32-bit finalizer, a bijection."""
    value = ((value ^ (value >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    value = ((value ^ (value >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return value ^ (value >> 16)
