"""Guidance's branches: the UNet calls that a step makes of them, and the guess that comes of it."""

import pytest
import torch

from parallel.comm.group import Group
from parallel.layers.guidance import NEGATIVE, POSITIVE, Guidance
from parallel.layers.turns import InOrder, Turns

CPU = torch.device("cpu")
BOTH, ALONE = [range(2)], [range(NEGATIVE, NEGATIVE + 1), range(POSITIVE, POSITIVE + 1)]


@pytest.mark.parametrize(
    "scale, ranks, apart, calls, order",
    [
        (3.0, 1, False, BOTH, InOrder),
        (3.0, 1, True, ALONE, InOrder),
        (3.0, 2, False, ALONE, Turns),
        (3.0, 2, True, ALONE, InOrder),
        (1.0, 1, False, ALONE[1:], InOrder),
        (1.0, 2, False, ALONE[1:], InOrder),
    ],
)
def test_branches_go_together_on_one_rank_in_turns_on_more_and_apart_if_they_must(scale, ranks, apart, calls, order):
    guidance = Guidance(scale, Group(0, ranks, CPU), apart=apart)
    assert guidance.calls == calls and type(guidance.turns) is order


@pytest.mark.parametrize("ranks, apart", [(1, False), (1, True), (2, False)])
def test_a_guess_is_as_far_beyond_the_negative_one_as_guidance_says(ranks, apart):
    guidance, seen = Guidance(3.0, Group(0, ranks, CPU), apart=apart), []

    def predict(branches: range) -> torch.Tensor:
        seen.extend((branch, guidance.turns.now) for branch in branches)
        return torch.tensor([[10.0, 14.0][branch] for branch in branches]).view(-1, 1, 1, 1, 1)

    assert guidance.guess(predict).flatten().tolist() == [22.0]
    assert seen == ([(0, 0), (1, 0)] if len(guidance.calls) == 1 else [(0, 0), (1, 1)]), "each call by its number"
