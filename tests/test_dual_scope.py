"""3D dual-scope attention by itself: diffusers' own module, and what its softmax is."""

import math

import torch
from torch.nn.functional import scaled_dot_product_attention

from harness import wan_builders
from parallel.comm.group import Group
from parallel.layers.conditioning import Conditioning
from parallel.layers.dual_scope import DualScopeAttention, Grid, Plans, keys_values, queries
from parallel.layers.guidance import POSITIVE
from parallel.layers.view import View
from parallel.maths import prompts
from parallel.maths.scope import Span

FRAMES, TOKENS = 3, 4


def attention() -> torch.nn.Module:
    return wan_builders.transformer().blocks[0].attn1


def test_logits_are_scaled_by_tokens_so_that_a_frame_that_sees_itself_alone_sees_its_tokens_apart():
    """Scaled by frames, the logarithm of one key is zero: every token would get the mean of all."""
    attn, view = attention(), View(Group(0, 1, torch.device("cpu")), Span(FRAMES, 0, 0))
    grid = Grid((2, 2), attn.inner_dim // attn.heads)
    layer = DualScopeAttention(view, Plans(view, "near"), grid, travel="hidden_states", trained_keys=21)
    x_BFPD = 3 * torch.randn(1, FRAMES, TOKENS, attn.inner_dim, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        out = layer(attn, x_BFPD.flatten(1, 2)).unflatten(1, (FRAMES, TOKENS))[0, 1]
        q, (k, v) = queries(attn, x_BFPD), keys_values(attn, x_BFPD)
        turn = grid.turn(torch.tensor([1]))
        q_NPD, k_NPD = (dual[0].transpose(0, 1) for dual in (_turned(q, turn), _turned(k, turn)))
        scale = math.log(TOKENS) / math.log(21 * TOKENS) / q.shape[-1] ** 0.5
        seen = scaled_dot_product_attention(q_NPD, k_NPD, v[0, 1].transpose(0, 1), scale=scale)
        expected = attn.to_out[0](seen.transpose(0, 1).flatten(1))
    assert torch.allclose(out, expected, atol=1e-5) and (out[0] - out[1]).abs().max() > 1e-3


def _turned(x_BFPND: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the second frame's tokens turned, (1, P, N, D), as complex numbers are."""
    x = torch.view_as_complex(x_BFPND[0, 1:2].unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(x * torch.complex(*turn)).flatten(-2)


def test_which_frames_hear_the_same_is_read_from_the_device_once_and_not_in_every_step():
    heard = prompts.share(range(6), prompts.Timeline(6, (0, 3)))
    conditioning = Conditioning(torch.zeros(3, 1, 1), heard, range(2))
    assert conditioning.runs(POSITIVE) == [slice(0, 3), slice(3, 6)]
    assert conditioning.of(range(1, 2)).runs(POSITIVE) is conditioning.of(range(2)).runs(POSITIVE)
