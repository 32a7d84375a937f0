"""Bytes of a UNet call from the plan alone; that real ranks send the same is in test_layers.py."""

import pytest

from parallel.families import traffic
from parallel.families.unet_shape import UNetShape, count_messages, exchanges
from parallel.maths import clips
from parallel.maths.scope import Span, keys, window

LAYERS = exchanges(UNetShape(), 40, 64)


def test_each_message_of_videocrafter2_has_its_bytes():
    kinds = [layer.kind for layer in LAYERS]
    assert len(LAYERS) == count_messages(UNetShape()) and kinds.count("convolution") == 88


@pytest.mark.parametrize("frames, ranks, loop", [(50, 7, False), (50, 7, True), (11, 3, True), (5, 5, False), (9, 1, False)])
def test_what_is_sent_is_what_others_want(frames, ranks, loop):
    span, cut = Span(frames, 2, 3, loop), clips.cut(frames, ranks)
    layers = [traffic.FrameLayer("convolution", 10, False), traffic.FrameLayer("attention", 1000, False)]
    expected = []
    for clip in cut:
        others = [other for other in cut if other != clip]
        near = sum(len(set(window(other, 1, frames, loop)) & set(clip)) for other in others)
        far = sum(len(set(keys(other, span)) & set(clip)) for other in others)
        expected.append(2 * (10 * near + 1000 * far))
    assert traffic.sent_bytes(layers, span, ranks, item=2) == expected


def test_moments_go_to_every_other_rank_once_a_branch():
    layers = [traffic.FrameLayer("convolution", 0, True)]
    assert traffic.sent_bytes(layers, Span(8, 1, 0), 4, item=2, groups=32, branches=2) == [2 * 3 * 32 * 12] * 4


def test_the_formula_is_a_middle_ranks_bytes():
    span = Span(2300, 8, 16)
    exact = traffic.sent_bytes(LAYERS, span, 8, item=2)[4]
    assert traffic.formula_bytes(LAYERS, span, 8, item=2) == pytest.approx(exact, rel=0.01)


def test_a_global_frames_owner_sends_it_to_everyone():
    """The busiest rank's bytes grow with the ranks, where the mean rank's do not: what limits hundreds of them."""
    span = Span(100_000, 8, 16)
    few, many = (traffic.sent_bytes(LAYERS, span, ranks, item=2) for ranks in (64, 512))
    assert max(many) > 5 * max(few)
    assert sum(many) / 512 == pytest.approx(sum(few) / 64, rel=0.1)


def test_what_a_taker_projects():
    """Keys and values of a frame: two matrices of the width squared, for each pixel; the first layer's frames are entered too."""
    wide = exchanges(UNetShape(block_out_channels=(64,) * 4, attention_head_dim=16), 8, 8)
    raw, hidden = wide[:2]
    assert hidden.flop == 2 * 2 * 128 * 128 * 64 and raw.flop == hidden.flop + 2 * 64 * 128 * 64
    assert all(layer.flop == 0 for layer in wide if layer.kind == "convolution")
