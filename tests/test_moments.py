import pytest
import torch
from torch.nn.functional import group_norm

from parallel.maths import moments


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 2e-5), (torch.float16, 5e-3), (torch.bfloat16, 5e-2)])
def test_merged_moments_make_the_group_norm_of_the_whole(dtype, bound):
    """At mean / std = 30, where plain sums of squares lose 5e-4 in float32 and overflow in float16."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(2, 16, 11, 6, 5, generator=generator) + 30).to(dtype)
    norm = torch.nn.GroupNorm(4, 16)
    norm.weight.data, norm.bias.data = torch.rand(16), torch.rand(16)
    parts = torch.stack([moments.measure(part, 4) for part in x.split([1, 7, 3], dim=2)])
    mean, variance = moments.merge(parts)
    expected = group_norm(x.double(), 4, norm.weight.double(), norm.bias.double(), norm.eps)
    got = moments.normalize(x, mean, variance, norm)
    assert got.dtype == dtype
    assert (got.double() - expected).abs().max() < bound


def test_a_norm_without_an_affine_is_one_too():
    x = torch.randn(2, 8, 3, 4, 4)
    norm = torch.nn.GroupNorm(2, 8, affine=False)
    got = moments.normalize(x, *moments.merge(moments.measure(x, 2)[None]), norm)
    assert torch.allclose(got, norm(x), atol=1e-5)
