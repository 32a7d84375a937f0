from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parallel import timeline
from parallel.errors import JobRefused
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


def test_a_timeline_takes_frames_and_seconds():
    text = "# a comment\n0: a cat wakes\n\n 1.5s : it jumps: high \n20: it sleeps"
    parsed = timeline.parse(text, fps=8, frames=24)
    assert [(prompt.frame, prompt.text) for prompt in parsed] == [(0, "a cat wakes"), (12, "it jumps: high"), (20, "it sleeps")]


@pytest.mark.parametrize(
    "text, message",
    [
        ("0: a\n9: b\n3: c", "timeline line 3: frame 3 does not come after frame 9: sort the lines, one prompt a frame"),
        ("0: a\n9: b\n9: c", "timeline line 3: frame 9 does not come after frame 9: sort the lines, one prompt a frame"),
        ("0: a\n24: b", "timeline line 2: frame 24 is past the end of a video of 24 frames: use frames 0 to 23"),
        ("0: a\n3s: b", "timeline line 2: frame 24 is past the end of a video of 24 frames: use frames 0 to 23"),
        ("a cat", "timeline line 1: wanted `FRAME: text` or `SECONDSs: text`, got 'a cat'"),
        ("0: a\n4: ", "timeline line 2: wanted `FRAME: text` or `SECONDSs: text`, got '4: '"),
        ("0: a\n-4: b", "timeline line 2: wanted `FRAME: text` or `SECONDSs: text`, got '-4: b'"),
        ("0: a\n4.5: b", "timeline line 2: frame 4.5 is not whole: write 4.5s for seconds"),
        ("0: a\n" + "9" * 400 + "s: b", "timeline line 2: wanted `FRAME: text` or `SECONDSs: text`, got '" + "9" * 60 + "'"),
        ("0: " + "a" * 10_001, "timeline line 1: text: wanted at most 10000 characters, got 10001"),
        ("3: a", "timeline: no prompt for frame 0: begin with a line such as `0: a cat wakes`"),
        ("", "timeline: no prompt for frame 0: begin with a line such as `0: a cat wakes`"),
    ],
)
def test_a_wrong_timeline_is_refused_by_its_line(text, message):
    with pytest.raises(JobRefused) as refused:
        timeline.parse(text, fps=8, frames=24)
    assert str(refused.value) == message


@pytest.mark.parametrize("fps", [0, -8, float("nan"), float("inf"), 1e9])
def test_a_frame_rate_that_is_none_is_refused(fps):
    with pytest.raises(JobRefused, match=r"^fps: wanted more than 0 and at most 240, got "):
        timeline.parse("0: a\n2s: b", fps=fps, frames=24)


LINES = st.from_regex(r"[0-9]{1,12}(\.[0-9]{1,12})?s?: ?[a-z]*", fullmatch=True)


@given(st.text(max_size=200) | st.lists(LINES, max_size=5).map(lambda lines: "\n".join(["0: a", *lines])))
def test_any_text_is_a_timeline_or_refused(text):
    try:
        parsed = timeline.parse(text, fps=8, frames=24)
    except JobRefused:
        return
    assert parsed[0].frame == 0 and all(0 <= prompt.frame < 24 for prompt in parsed)
