"""Rotary positions of video tokens over time, height and width, as Wan has them: any place, also negative, and any length.

A head's width is split into time, height and width; of each a pair of numbers is turned by place / 10000^(2k / width of the part).
"""

import torch
from einops import rearrange

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
    height, width = grid
    time_width, height_width, width_width = widths(head)
    tokens = height * width
    time = angles(places.flatten(), time_width)[:, None].expand(-1, tokens, -1)
    rows = angles(torch.arange(height, device=places.device), height_width)
    columns = angles(torch.arange(width, device=places.device), width_width)
    in_frame = torch.cat([rows.repeat_interleave(width, 0), columns.repeat(height, 1)], dim=-1)
    turned = torch.cat([time, in_frame.expand(len(time), -1, -1)], dim=-1)
    turned = turned.unflatten(0, places.shape)[..., None, :]
    return turned.cos().float(), turned.sin().float()


def rotate(x: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return tokens (..., P, N, D) turned by a table, in their own type; pairs lie side by side."""
    cosine, sine = turn
    first, second = rearrange(x, "... (d two) -> two ... d", two=2)
    out = torch.empty_like(x)
    out[..., 0::2] = first * cosine - second * sine
    out[..., 1::2] = first * sine + second * cosine
    return out
