"""The Wan that is measured: a transformer of middling size with the scopes that suit one trained on 21 latents, in float32."""

from typing import Any

import torch
from diffusers import WanTransformer3DModel

from benchmarks import wan_changes
from parallel.comm.group import Group
from parallel.layers.patch import Change
from parallel.layers.travel import Travel
from parallel.layers.view import View
from parallel.maths.scope import Span
from parallel.models.wan import NoRotation

LATENTS, LOCAL, GLOBAL, TRAINED = 48, 6, 8, 21  # of which 2 x 6 + 1 + 8 are seen, as many as were trained on
HEADS, HEAD, BLOCKS, FEED_FORWARD = 6, 64, 6, 1536
SIDE = 8  # tokens of a latent, either way
CHANNELS, TEXT, TOKENS = 16, 64, 32  # the text is as long, beside the trained latents, as that of released models


def net(*, rope: bool = False) -> WanTransformer3DModel:
    """Return a net of seeded random weights, to be evaluated only; `rope`: with stock's table of rotary positions."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_attention_heads": HEADS, "attention_head_dim": HEAD, "ffn_dim": FEED_FORWARD}
    made = WanTransformer3DModel(**sizes, num_layers=BLOCKS, text_dim=TEXT, freq_dim=32, cross_attn_norm=True)
    if not rope:
        made.rope = NoRotation()
    return made.eval().requires_grad_(False)


def span(latents: int) -> Span:
    """Return the bench's scopes in a video of some length."""
    return Span(latents, LOCAL, GLOBAL)


def alone(latents: int) -> View:
    """Return one rank's view of a video of some length."""
    return View(Group(0, 1, torch.device("cpu")), span(latents))


def changes(made: WanTransformer3DModel, view: View, travel: Travel = "hidden_states", branches: int = 1) -> list[Change]:
    """Return what makes the net work on a clip whose branches all hear the same text, one call a branch."""
    heard = {number: wan_changes.one_text(len(view.clip)) for number in range(branches)}
    return wan_changes.changes(made, view, heard, size=(SIDE, SIDE), travel=travel)


def call(latents: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return one branch's latents, (1, C, F, H, W), its time, (1,), and its text, (1, L, D)."""
    generator = torch.Generator().manual_seed(1)
    video = torch.randn(1, CHANNELS, latents, 2 * SIDE, 2 * SIDE, generator=generator)
    return video, torch.tensor([500.0]), torch.randn(1, TOKENS, TEXT, generator=generator)
