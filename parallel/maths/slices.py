"""How much a layer works on at once: slices of pixels or frames that fit a cache, and that bound what memory it needs.

Results do not depend on it: layers over frames treat pixels alike, layers over pixels treat frames alike.
"""

from collections.abc import Iterator
from dataclasses import dataclass

BLOCKS_AT_ONCE = 3  # of a net whose blocks are offloaded: two that branches of guidance are in, and the next one
CPU_BYTES = 4 * 2**20  # a core's share of cache: a feed-forward in slices is 2.6 times as fast as on the whole
GPU_BYTES = 512 * 2**20  # enough to fill a GPU
GRID = 65_535  # blocks that CUDA starts along the axis where attention and batched products put their batch
LEAST_PIXELS = 16  # a cache line of float32: thinner slices read lines in vain


@dataclass(frozen=True)
class Slices:
    """About `budget` bytes of working memory a slice, or as many frames and pixels as were set by hand; never above GRID."""

    budget: int = CPU_BYTES
    frames: int | None = None
    pixels: int | None = None

    def over_pixels(self, pixels: int, bytes_each: int, *, heads: int = 1) -> Iterator[slice]:
        """Yield slices of pixels, for a layer that works in `bytes_each` bytes a pixel, with attention of `heads`."""
        at_once = self.pixels or max(LEAST_PIXELS, self.budget // bytes_each)
        return cut(pixels, at_once, heads=heads)

    def over_frames(self, frames: int, bytes_each: int, *, heads: int = 1) -> Iterator[slice]:
        """Yield slices of frames, for a layer that works in `bytes_each` bytes a frame, with attention of `heads`."""
        at_once = self.frames or max(1, self.budget // bytes_each)
        return cut(frames, at_once, heads=heads)


def fitting(free_bytes: int | None) -> int:
    """Return a budget for a device with so much free memory, or for a CPU, whose cache counts (None)."""
    return CPU_BYTES if free_bytes is None else max(CPU_BYTES, min(GPU_BYTES, free_bytes // 16))


def cut(count: int, at_once: int | None = None, *, heads: int = 1) -> Iterator[slice]:
    """Yield even slices, of at most `at_once` if that is said; with `heads` heads each is a batch that any kernel takes."""
    widest = max(1, GRID // heads)
    pieces = -(-count // (widest if at_once is None else min(at_once, widest)))
    length = -(-count // pieces)
    return (slice(start, min(start + length, count)) for start in range(0, count, length))
