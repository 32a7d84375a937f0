"""Sums -> mean and variance: the moments of a group norm, measured on parts and merged.

Moments are (count, mean, sum of squared deviations) in float32, merged as in Chan, Golub and LeVeque (1979): plain sums of
squares lose 5e-4 at mean / std = 30 and overflow in float16.
"""

import torch
from einops import rearrange
from torch.nn.functional import batch_norm

from .slices import Slices


def measure(x_FCP: torch.Tensor, groups: int) -> torch.Tensor:
    """Return the moments of each group over its channels and all frames and pixels: float32 (G, 3)."""
    rows_FGX = rearrange(x_FCP, "f (g c) p -> f g (c p)", g=groups)
    mean_FG1 = rows_FGX.mean(-1, keepdim=True, dtype=torch.float32)
    # A norm of the deviations: on a CPU twenty times as fast as torch.var_mean, and as exact.
    squares_FG = torch.linalg.vector_norm(rows_FGX - mean_FG1, dim=-1).square()
    count_FG = torch.full_like(squares_FG, rows_FGX.shape[-1])
    return merge(torch.stack([count_FG, mean_FG1[..., 0], squares_FG], dim=-1))


def measure_all(x_BFCP: torch.Tensor, groups: int, slices: Slices) -> torch.Tensor:
    """Return the moments of each branch over all its frames, measured some frames at a time: float32 (B, G, 3)."""
    bytes_each = 2 * x_BFCP[0, 0].numel() * x_BFCP.element_size()
    cuts = list(slices.over_frames(x_BFCP.shape[1], bytes_each))
    return torch.stack([merge(torch.stack([measure(x_FCP[cut], groups) for cut in cuts])) for x_FCP in x_BFCP])


def merge(parts_RG3: torch.Tensor) -> torch.Tensor:
    """Return the moments of the union of all parts: (R, ..., 3) -> (..., 3)."""
    count, mean, squares = parts_RG3.unbind(-1)
    total = count.sum(0)
    center = (count * mean).sum(0) / total
    return torch.stack([total, center, (squares + count * (mean - center).square()).sum(0)], dim=-1)


def normalize(x_FCP: torch.Tensor, moments_G3: torch.Tensor, norm: torch.nn.GroupNorm) -> torch.Tensor:
    """Apply a group norm's affine with given statistics: F.group_norm, but for where the statistics come from."""
    count, mean, squares = moments_G3.repeat_interleave(x_FCP.shape[1] // norm.num_groups, dim=0).unbind(-1)
    weight, bias = (None if p is None else p.float() for p in (norm.weight, norm.bias))
    # Batch norm at inference is the one fused kernel that takes statistics from outside, in float32 whatever x is; it is
    # four times as fast on a picture as on a row.
    picture = x_FCP.contiguous()[..., None]
    return batch_norm(picture, mean, squares / count, weight, bias, training=False, eps=norm.eps)[..., 0]
