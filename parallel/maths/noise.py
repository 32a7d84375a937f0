"""Noise by frame number: what a frame starts from depends on the seed and its place in the video, never on the cut."""

from collections.abc import Iterable

import torch

START = 0  # the draw that a video begins with; the noise of step i is draw i + 1
# Numbers past those of any video's frames, so that within a draw these share no state with a frame either.
ORDERS = 1 << 31  # + c: the order of run c of shuffled noise
COMMON = (1 << 32) - 1  # what all frames of mixed noise share


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


def draw_shuffled(
    seed: int, frames: Iterable[int], shape_CHW: tuple[int, int, int], *, window: int, stride: int
) -> torch.Tensor:
    """Return noise as draw_frames, but with that of the first `window` frames used again and again, in other orders."""
    return draw_frames(seed, sources(seed, frames, window=window, stride=stride), shape_CHW)


def draw_mixed(seed: int, frames: Iterable[int], shape_CHW: tuple[int, int, int], *, share: float) -> torch.Tensor:
    """Return noise as draw_frames, but of which `share` (0 to 1) of the variance is the same in all frames.

    It is standard normal too, and any two frames correlate by `share` (PYoCo's mixed noise, arXiv 2305.10474).
    """
    common = draw_frames(seed, [COMMON], shape_CHW)
    return share**0.5 * common + (1 - share) ** 0.5 * draw_frames(seed, frames, shape_CHW)


def sources(seed: int, frames: Iterable[int], *, window: int, stride: int) -> list[int]:
    """Return which of the first `window` frames each frame has its shuffled noise from (FreeNoise, arXiv 2310.15169).

    Run c, of `stride` frames, holds those of run c modulo window / stride, in an order of its own; `window` is a multiple of
    `stride`. Unlike the paper, which shuffles the run a window before: that order depends on all the ones before it.
    """
    base_runs = window // stride
    orders: dict[int, list[int]] = {}
    found = []
    for frame in frames:
        run, place = divmod(frame, stride)
        if run >= base_runs and run not in orders:
            (generator,) = generators(seed, [ORDERS + run], START)
            orders[run] = torch.randperm(stride, generator=generator).tolist()
        found.append(run % base_runs * stride + (orders[run][place] if run in orders else place))
    return found


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
