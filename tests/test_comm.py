"""The communication verbs on real gloo ranks."""

import pytest
import torch

from parallel.maths import clips


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_fetch_brings_the_wanted_frames_and_everybodys_note(ranks, size, dtype):
    x = torch.randn(2, 11, 3, 5, generator=torch.Generator().manual_seed(1))
    wanted = ((0, 5, 10), (), (9, 8, 1, 1), tuple(range(11)))
    for rank, (arrived, order, notes) in enumerate(ranks("fetch_frames", size, x=x, wanted=wanted, dim=1, dtype=dtype)):
        own = clips.cut(11, size)[rank]
        assert set(order) == set(wanted[rank]) - set(own)
        assert torch.equal(arrived, x[:, list(order)].to(dtype))
        assert torch.equal(notes, (torch.arange(size) + 0.1).view(-1, 1, 1).expand(-1, 2, 3))


def test_all_ranks_do_what_one_was_asked_for(ranks):
    assert ranks("agree", 3, flags=[True, False, False]) == [True] * 3
    assert ranks("agree", 3, flags=[False, False, True]) == [True] * 3
    assert ranks("agree", 3, flags=[False] * 3) == [False] * 3
    assert ranks("agree", 1, flags=[True]) == [True]
