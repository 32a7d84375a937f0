import pytest
import torch
from torch.nn.functional import group_norm

from parallel.maths import moments


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 2e-5), (torch.float16, 5e-3), (torch.bfloat16, 5e-2)])
def test_merged_moments_make_the_group_norm_of_the_whole(dtype, bound):
    """At mean / std = 30, where plain sums of squares lose 5e-4 in float32 and overflow in float16."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(11, 16, 30, generator=generator) + 30).to(dtype)
    norm = torch.nn.GroupNorm(4, 16)
    norm.weight.data, norm.bias.data = torch.rand(16), torch.rand(16)
    total = moments.merge(torch.stack([moments.measure(part, 4) for part in x.split([1, 7, 3])]))
    whole = x.double().transpose(0, 1)[None]
    expected = group_norm(whole, 4, norm.weight.double(), norm.bias.double(), norm.eps)[0].transpose(0, 1)
    got = moments.normalize(x, total, norm)
    assert got.dtype == dtype
    assert (got.double() - expected).abs().max() < bound


def test_a_norm_without_an_affine_is_one_too():
    x = torch.randn(3, 8, 16)
    norm = torch.nn.GroupNorm(2, 8, affine=False)
    got = moments.normalize(x, moments.measure(x, 2), norm)
    assert torch.allclose(got, norm(x.transpose(0, 1)[None])[0].transpose(0, 1), atol=1e-5)
