"""The group and its verbs, fetch and agree, on real gloo ranks."""

import pytest
import torch

from parallel.maths import clips


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_fetch_brings_the_wanted_frames_and_everybodys_header(ranks, size, dtype):
    x = torch.randn(2, 11, 3, 5, generator=torch.Generator().manual_seed(1))
    wanted = ((0, 5, 10), (), (9, 8, 1, 1), tuple(range(11)))
    for rank, (arrived, order, headers) in enumerate(ranks("fetch_frames", size, x=x, wanted=wanted, dim=1, dtype=dtype)):
        own = clips.cut(11, size)[rank]
        assert set(order) == set(wanted[rank]) - set(own)
        assert torch.equal(arrived, x[:, list(order)].to(dtype))
        assert torch.equal(headers, (torch.arange(size) + 0.1).view(-1, 1, 1).expand(-1, 2, 3))


def test_all_ranks_do_what_one_was_asked_for(ranks):
    assert ranks("agree", 3, flags=[(True, False), (False, False), (False, False)]) == [(True, False)] * 3
    assert ranks("agree", 3, flags=[(False, False), (False, True), (True, False)]) == [(True, True)] * 3
    assert ranks("agree", 3, flags=[(False,)] * 3) == [(False,)] * 3
    assert ranks("agree", 1, flags=[(True,)]) == [(True,)]


def test_ranks_that_did_not_exchange_equally_often_all_say_so(ranks):
    flags = [(True,), (False,), (False,)]
    assert ranks("agree", 3, flags=flags, made=[12, 12, 12]) == [(True,)] * 3
    said = "the ranks made 12 to 14 exchanges, and not the same number each, at step 3 of 9"
    assert ranks("agree", 3, flags=flags, made=[13, 14, 12]) == [said] * 3
    assert ranks("agree", 1, flags=flags, made=[7]) == [(True,)]


def test_ranks_that_meet_exchange_as_layers_do(ranks):
    """The tests' ranks are four, and all of them are the group."""
    assert ranks("warm_up", 4, breaks=None) == [None] * 4
    said = ranks("warm_up", 4, breaks=2)
    assert said == [None if rank == 2 else f"what rank 2 sent came to rank {rank} as something else" for rank in range(4)]
