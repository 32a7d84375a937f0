"""Each exact layer, on a cut time axis, equals diffusers' own on the uncut tensor."""

import inspect
import math

import pytest
import torch
from diffusers import UNet3DConditionModel

from harness import builders
from parallel.families import traffic
from parallel.families.unet_shape import UNetShape, count_messages, exchanges
from parallel.maths import clips
from parallel.maths.scope import Span

SIZES = [1, 2, 3, 4]
FRAMES = [4, 7, 13]  # one frame a rank at 4; uneven clips at 7 and 13


def video(frames: int) -> torch.Tensor:
    return torch.randn(2, builders.DIM, frames, 4, 3, generator=torch.Generator().manual_seed(frames))


def whole(module, x_BCFHW) -> torch.Tensor:
    with torch.inference_mode():
        out = module(x_BCFHW.transpose(1, 2).flatten(0, 1), num_frames=x_BCFHW.shape[2])
    out = out if isinstance(out, torch.Tensor) else out.sample
    return out.unflatten(0, (2, -1)).transpose(1, 2)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("frames", FRAMES)
def test_temporal_convolution_equals_diffusers(ranks, size, frames):
    x = video(frames)
    expected = whole(builders.conv_layer(), x)
    assert (expected - x).abs().mean() > 0.1, "the layer must do something"
    got = torch.cat(ranks("convolve", size, x_BCFHW=x, loop=False), dim=2)
    assert (got - expected).abs().max() < 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_temporal_convolution_in_a_loop_has_no_seam(ranks, size):
    """Rolling the video rolls the result, which is that of diffusers' own convolutions over a circularly padded video."""
    x = video(7)
    got = torch.cat(ranks("convolve", size, x_BCFHW=x, loop=True), dim=2)
    rolled = torch.cat(ranks("convolve", size, x_BCFHW=x.roll(3, 2), loop=True), dim=2)
    assert (rolled - got.roll(3, 2)).abs().max() < 1e-5
    layer = builders.conv_layer()
    parts = [(conv[0], conv[-1]) for conv in (layer.conv1, layer.conv2, layer.conv3, layer.conv4)]
    expected = x
    for norm, conv in parts:
        y = torch.nn.functional.silu(norm(expected))
        y = torch.cat([y[:, :, -1:], y, y[:, :, :1]], dim=2)
        expected = torch.nn.functional.conv3d(y, conv.weight, conv.bias)
    assert (got - (x + expected)).abs().max() < 1e-5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("global_frames", [0, 5])
def test_a_scope_over_the_whole_video_equals_diffusers(ranks, size, frames, global_frames):
    x = video(frames)
    expected = whole(builders.temporal_transformer(), x)
    got = torch.cat(ranks("attend", size, x_BCFHW=x, local=frames, global_=global_frames), dim=2)
    assert (got - expected).abs().max() < 1e-5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("trained", [None, 6])
def test_dual_scope_attention_equals_diffusers_with_a_dense_mask(ranks, size, frames, loop, trained):
    """diffusers' own transformer, its attention replaced by a dense formula over the T x T bias of the definition."""
    from tests.test_scope import dense_logit_bias

    local, global_frames, biases = 2, 3, (0.5, 2.0)
    model, x = builders.temporal_transformer(), video(frames)
    bias = dense_logit_bias(frames, local, global_frames, loop, biases)
    keys = (~bias.isinf()).sum(1)
    scale = keys.double().log() / math.log(trained) if trained else torch.ones(frames, dtype=torch.float64)

    class Dense:
        def __call__(self, attn, hidden_states, **_):
            q, k, v = (
                projection(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2).double()
                for projection in (attn.to_q, attn.to_k, attn.to_v)
            )
            logits = (q @ k.mT) / q.shape[-1] ** 0.5 * scale[:, None] + bias
            out = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2).float()
            return attn.to_out[0](out)

    for attn in (model.transformer_blocks[0].attn1, model.transformer_blocks[0].attn2):
        attn.processor = Dense()
    expected = whole(model, x)
    settings = {"local": local, "global_": global_frames, "loop": loop, "biases": biases, "trained": trained}
    got = torch.cat(ranks("attend", size, x_BCFHW=x, **settings), dim=2)
    assert (got - expected).abs().max() < 1e-5


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("global_frames", [0, 5])
def test_anchor_a_patched_unet_equals_the_stock_one(ranks, size, global_frames):
    generator = torch.Generator().manual_seed(3)
    x, text = torch.randn(2, 4, 10, 8, 8, generator=generator), torch.randn(2, 5, 16, generator=generator)
    with torch.inference_mode():
        expected = builders.unet()(x, 500, encoder_hidden_states=text).sample
    call = {"x_BCFHW": x, "timestep": 500, "text_BLD": text, "local": 10, "global_": global_frames}
    got = torch.cat(ranks("call_unet", size, **call), dim=2)
    assert (got - expected).abs().max() < 1e-4
    near = torch.cat(ranks("call_unet", size, **{**call, "local": 1, "global_": 0}), dim=2)
    assert (near - expected).abs().max() > 1e-3, "a narrow scope must differ, or the scope does nothing"


@pytest.mark.parametrize("size, frames", [(2, 8), (3, 11), (4, 30)])
def test_messages_and_bytes_are_those_of_the_plan(ranks, size, frames):
    """122 of 227 on VideoCrafter2's UNet: one message a convolution with its norm, one an attention, the first with its norm."""
    x, text = torch.randn(1, 4, frames, 8, 8), torch.randn(1, 5, 16)
    costs = ranks("cost_of_unet", size, x_BCFHW=x, timestep=1, text_BLD=text, local=2, global_=2)
    config = builders.unet().config
    expected = count_messages(UNetShape(**{name: config[name] for name in UNetShape.model_fields}))
    assert {messages for messages, _ in costs} == {expected}
    shape = UNetShape(**{name: config[name] for name in UNetShape.model_fields})
    layers = exchanges(shape, 8, 8)
    assert len(layers) == expected
    assert [sent for _, sent in costs] == traffic.sent_bytes(layers, Span(frames, 2, 2), size, item=4, groups=8)


def test_the_counts_for_videocrafter2_are_those_of_its_configuration():
    """diffusers' defaults are its sizes."""
    assert count_messages(UNetShape()) == 122
    assert UNetShape().frame_layers() == {"norm": 17, "attention": 34, "convolution": 88}
    defaults = inspect.signature(UNet3DConditionModel).parameters
    assert all(getattr(UNetShape(), name) == defaults[name].default for name in UNetShape.model_fields)


def test_clips_of_the_tests_are_uneven():
    assert [len(clip) for clip in clips.cut(7, 3)] == [3, 2, 2]
