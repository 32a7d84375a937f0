from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parallel.maths import clips, prompts

EMBEDDINGS = torch.tensor([0.0, 10.0, 30.0])[:, None, None]
STARTS = (0, 4, 8)


def heard(frames=12, fade=0, loop=False, ranks=1):
    timeline, everything = prompts.Timeline(frames, STARTS, fade, loop), slice(None)
    parts = [prompts.blend(EMBEDDINGS, prompts.share(clip, timeline), everything) for clip in clips.cut(frames, ranks)]
    return torch.cat(parts).flatten().tolist()


def test_a_prompt_is_heard_from_its_frame_on():
    assert heard() == [0] * 4 + [10] * 4 + [30] * 4


def test_a_fade_takes_over_evenly_and_never_before_its_frame():
    assert heard(fade=3) == [0, 0, 0, 0, 2.5, 5, 7.5, 10, 15, 20, 25, 30]


def test_in_a_loop_the_last_prompt_leads_into_the_first():
    assert heard(fade=1, loop=True) == [15, 0, 0, 0, 5, 10, 10, 10, 20, 30, 30, 30]


@pytest.mark.parametrize("loop", [False, True])
def test_a_fade_that_the_next_prompt_cuts_short_is_a_shorter_fade_and_no_jump(loop):
    told = heard(frames=12, fade=10, loop=loop)
    assert told[3] == 0 and told[7] == 10 and told[4:8] == [2.5, 5, 7.5, 10]
    assert max(abs(b - a) for a, b in pairwise(told)) <= 30 / 4


@given(st.integers(9, 40), st.integers(1, 9), st.integers(0, 20), st.booleans())
def test_what_a_frame_hears_is_the_same_for_any_cut(frames, ranks, fade, loop):
    assert heard(frames, fade, loop, ranks) == heard(frames, fade, loop, 1)
