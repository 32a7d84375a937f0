"""The plan against a dense formula that is written here from the definition, with no code of the pack."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parallel.maths import attention, clips, places, scope
from parallel.maths.scope import Span

videos = st.fixed_dictionaries(
    {
        "frames": st.integers(1, 60),
        "ranks": st.integers(1, 6),
        "local": st.integers(0, 70),
        "spread": st.integers(0, 12),
        "loop": st.booleans(),
        "biases": st.tuples(st.floats(-12, 12), st.floats(-12, 12)),
        "length": st.integers(1, 20),
    }
)


def dense_logit_bias(frames, local, spread, loop, biases):
    """Return the T x T bias straight from the definition: -inf where query i does not see key j."""
    everywhere = {0} if spread == 1 else {round(i * (frames - 1) / (spread - 1)) for i in range(spread)}
    bias = torch.full((frames, frames), -math.inf, dtype=torch.float64)
    for i in range(frames):
        for j in range(frames):
            apart = abs(i - j)
            if loop:
                apart = min(apart, frames - apart)
            if apart <= local:
                bias[i, j] = biases[0]
            elif j in everywhere:
                bias[i, j] = biases[1]
    return bias


def planned_logit_bias(frames, ranks, local, spread, loop, biases, length):
    """Put together the T x T bias that the ranks' blocks amount to."""
    bias = torch.full((frames, frames), -math.inf, dtype=torch.float64)
    span = Span(frames, local, spread, loop)
    for clip in clips.cut(frames, min(ranks, frames)):
        needed = set(scope.keys(clip, span))
        for block in scope.query_blocks(clip, span, length):
            assert needed.issuperset(block.keys)
            assert list(block.keys) == sorted(set(block.keys))
            mask = attention.logit_mask(block.kinds_QK, *biases)
            mask = torch.full(block.kinds_QK.shape, float(biases[0])) if mask is None else mask
            bias[torch.tensor(list(block.queries))[:, None], torch.tensor(block.keys)[None]] = mask.double()
    return bias


@settings(deadline=None, max_examples=300)
@given(videos)
def test_the_plan_is_the_dense_formula_for_any_cut(video):
    video["biases"] = tuple(float(torch.tensor(b, dtype=torch.float32)) for b in video["biases"])
    dense = dense_logit_bias(*(video[name] for name in ("frames", "local", "spread", "loop", "biases")))
    planned = planned_logit_bias(**video)
    # Adding a constant to a row changes no softmax, so that rows of one kind may be left without a mask.
    assert torch.equal(planned.isinf(), dense.isinf())
    seen = ~dense.isinf()
    shift = (planned - dense).masked_fill(~seen, 0)
    spread_of_shift = shift.masked_fill(~seen, -99).amax(1) - shift.masked_fill(~seen, 99).amin(1)
    assert spread_of_shift.abs().max() < 1e-5


@settings(deadline=None, max_examples=100)
@given(videos, st.integers(0, 2**31))
def test_attention_in_blocks_is_dense_attention(video, seed):
    generator = torch.Generator().manual_seed(seed)
    frames, biases = video["frames"], video["biases"]
    q, k, v = (torch.randn(2, 2, frames, 4, generator=generator) for _ in range(3))
    dense = dense_logit_bias(frames, video["local"], video["spread"], video["loop"], biases)
    expected = torch.softmax((q.double() @ k.double().mT) / 2 + dense, -1) @ v.double()
    span = Span(frames, video["local"], video["spread"], video["loop"])
    for clip in clips.cut(frames, min(video["ranks"], frames)):
        for block in scope.query_blocks(clip, span, video["length"]):
            own = slice(block.queries.start, block.queries.stop)
            places = torch.tensor(block.keys)
            mask = attention.logit_mask(block.kinds_QK, *biases)
            out = attention.attend(q[:, :, own], k[:, :, places], v[:, :, places], mask)
            assert (out - expected[:, :, own]).abs().max() < 1e-4


def test_a_frame_in_both_scopes_counts_once_as_local():
    (block,) = scope.query_blocks(range(0, 1), Span(9, 2, 3), 1)
    assert block.keys == (0, 1, 2, 4, 8)
    assert block.kinds_QK.tolist() == [[scope.LOCAL, scope.LOCAL, scope.LOCAL, scope.GLOBAL, scope.GLOBAL]]


def test_more_global_frames_than_frames_are_all_frames_once():
    assert scope.spread(5, 50) == (0, 1, 2, 3, 4)
    assert scope.spread(100, 0) == ()
    assert scope.spread(100, 1) == (0,)


def test_one_window_reaches_over_the_whole_loop_once():
    assert sorted(scope.window(range(3, 5), 40, 7, True)) == list(range(7))


def test_the_scale_follows_the_number_of_keys_that_a_query_sees():
    (block,) = scope.query_blocks(range(0, 20), Span(20, 2, 0), 20)
    scale = attention.logit_scale(block.kinds_QK, 16)
    expected = torch.tensor([math.log(keys) / math.log(16) for keys in [3, 4, *[5] * 16, 4, 3]])
    assert torch.allclose(scale, expected)


def test_the_paper_switches_at_a_timestep_and_a_ramp_follows_the_schedule():
    hard = {"parting": 800, "ramp": False, "done": 0.9}
    assert scope.phase_bias((10.0, 0.0), timestep=801, **hard) == 10
    assert scope.phase_bias((10.0, 0.0), timestep=800, **hard) == 0
    assert scope.phase_bias((10.0, 0.0), timestep=999, done=0.25, parting=800, ramp=True) == 7.5


def test_keys_of_a_block_do_not_grow_with_the_video():
    sizes = []
    for frames in (64, 512, 100_000):
        span = Span(frames, 8, 16)
        clip = range(frames // 2, frames // 2 + 32)
        sizes.append(max(block.kinds_QK.numel() for block in scope.query_blocks(clip, span, scope.block_length(span))))
    assert max(sizes) <= scope.block_length(Span(64, 8, 16)) * (scope.block_length(Span(64, 8, 16)) + 16 + 16)


@settings(deadline=None, max_examples=60)
@given(videos, st.integers(0, 59), st.sampled_from(["near", "true"]))
def test_full_windows_give_every_frame_as_many_keys_and_a_clip_fetches_them_all(video, shift, rule):
    frames = video["frames"]
    span = Span(frames, video["local"], video["spread"], video["loop"], shift, full=True)
    spread_out = scope.spread(frames, video["spread"], shift)
    for clip in clips.cut(frames, min(video["ranks"], frames)):
        every = [places.keys(query, span, rule) for query in clip]
        for keys in every:
            assert len(set(keys.frames)) == len(keys.frames) == min(frames, 2 * video["local"] + 1 + len(spread_out))
            assert set(spread_out) <= set(keys.frames)
            assert list(keys.places) == sorted(set(keys.places))
        assert set(scope.keys(clip, span)) == {frame for keys in every for frame in keys.frames}
