import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel.maths import clips


@given(st.integers(1, 3000), st.integers(1, 64))
def test_clips_cover_the_video_once_and_differ_by_at_most_one_frame(frames, ranks):
    ranks = min(ranks, frames)
    cut = clips.cut(frames, ranks)
    assert [frame for clip in cut for frame in clip] == list(range(frames))
    assert len(cut) == ranks
    assert max(map(len, cut)) - min(map(len, cut)) <= 1


def test_more_ranks_than_frames_are_refused():
    with pytest.raises(ValueError, match=r"^cannot cut 5 frames into 8 clips: use at most 5 ranks$"):
        clips.cut(5, 8)
