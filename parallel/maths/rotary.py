"""Rotary positions of video tokens over time, height and width, as Wan has them: any place, also negative, and any length.

A head's width is split into time, height and width; of each a pair of numbers is turned by place / 10000^(2k / width of the part).
"""

import torch
from einops import rearrange, repeat

THETA = 10000.0


def widths(head: int) -> tuple[int, int, int]:
    """Return how much of a head's width stands for time, for height and for width."""
    side = 2 * (head // 6)
    return head - 2 * side, side, side


def angles(places: torch.Tensor, width: int) -> torch.Tensor:
    """Return by how much each pair is turned at some places, (places, width / 2) float64."""
    frequencies = 1.0 / THETA ** (torch.arange(0, width, 2, dtype=torch.float64, device=places.device) / width)
    return torch.outer(places.double(), frequencies)


def table(places: torch.Tensor, grid: tuple[int, int], head: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosine and sine for the tokens of frames at some places, float32 (*places, P, 1, D / 2), for any heads."""
    axes = places.flatten(), *(torch.arange(size, device=places.device) for size in grid)
    by_axis = [angles(axis, width) for axis, width in zip(axes, widths(head))]

    def spread(time: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        f, h, w = len(time), len(rows), len(columns)
        parts = (
            repeat(time, "f d -> f h w d", h=h, w=w),
            repeat(rows, "h d -> f h w d", f=f, w=w),
            repeat(columns, "w d -> f h w d", f=f, h=h),
        )
        return rearrange(torch.cat(parts, dim=-1), "f h w d -> f (h w) 1 d").unflatten(0, places.shape)

    # Of few angles, before they are spread over all tokens: sine and cosine of float64 take their time.
    return spread(*(angle.cos().float() for angle in by_axis)), spread(*(angle.sin().float() for angle in by_axis))


def time_table(places: torch.Tensor, head: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosine and sine of the part that stands for time, float32 (places, 1, 1, its width / 2), the same for all tokens."""
    angle = rearrange(angles(places, widths(head)[0]), "f d -> f 1 1 d")
    return angle.cos().float(), angle.sin().float()


def rotate(x: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return tokens (..., P, N, D) turned by a table, in their own type; pairs lie side by side."""
    cosine, sine = turn
    first, second = rearrange(x, "... (d two) -> two ... d", two=2)
    out = torch.empty_like(x)
    out[..., 0::2] = first * cosine - second * sine
    out[..., 1::2] = first * sine + second * cosine
    return out
