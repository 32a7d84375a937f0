"""Sums -> mean and variance: the moments of a group norm, measured on parts and merged.

Moments are (count, mean, sum of squared deviations) in float32, merged as in Chan, Golub and LeVeque (1979): plain sums of
squares lose 5e-4 at mean / std = 30 and overflow in float16.
"""

import torch
from torch.nn.functional import batch_norm


def measure(x_BCFHW: torch.Tensor, groups: int) -> torch.Tensor:
    """Return the moments of each group over its channels and all frames and pixels: float32 (B, G, 3)."""
    x_BGX = x_BCFHW.reshape(x_BCFHW.shape[0], groups, -1)
    variance, mean = torch.var_mean(x_BGX.float(), dim=-1, correction=0)
    count = torch.full_like(mean, x_BGX.shape[-1])
    return torch.stack([count, mean, variance * count], dim=-1)


def merge(parts_RBG3: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and (biased) variance of the union of all parts, float32 (B, G) each."""
    count, mean, squares = parts_RBG3.unbind(-1)
    total = count.sum(0)
    center = (count * mean).sum(0) / total
    squares = (squares + count * (mean - center).square()).sum(0)
    return center, squares / total


def normalize(x_BCFHW, mean_BG, variance_BG, norm: torch.nn.GroupNorm) -> torch.Tensor:
    """Apply a group norm's affine with given statistics: F.group_norm, but for where the statistics come from."""
    batch, channels = x_BCFHW.shape[:2]
    per_group = channels // norm.num_groups
    # Batch norm at inference is the one fused kernel that takes statistics from outside, in float32 whatever x is.
    folded = x_BCFHW.reshape(1, batch * channels, *x_BCFHW.shape[2:])
    mean, variance = (s.repeat_interleave(per_group, dim=1).flatten() for s in (mean_BG, variance_BG))
    weight, bias = (None if p is None else p.float().repeat(batch) for p in (norm.weight, norm.bias))
    return batch_norm(folded, mean, variance, weight, bias, training=False, eps=norm.eps).view_as(x_BCFHW)
