"""Cross-attention to the prompts of a timeline: the tokens of a frame attend to what that frame hears, by its number alone.

Consecutive frames that hear the same share one call. In front of the net the texts of all branches and runs are stacked into
one batch, which diffusers' forward hands through to these processors untouched.
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch.nn.functional import scaled_dot_product_attention

from .conditioning import Conditioning
from .view import View


@dataclass(frozen=True)
class Run:
    """Consecutive own frames of a branch that hear the same text."""

    branch: int  # a row of the batch
    frames: slice
    text: int  # a row of the stacked texts


@dataclass(frozen=True)
class Heard:
    """What the frames of a clip attend to in a call of the net."""

    runs: list[Run]
    pictures_BLD: torch.Tensor | None = None  # tokens that all frames attend to, beside their text


def stack(conditioning: Conditioning) -> tuple[torch.Tensor, list[Run]]:
    """Return what a clip hears, each text once a branch, (texts, L, D), and which frames hear which."""
    texts: list[torch.Tensor] = []
    runs: list[Run] = []
    for row, branch in enumerate(conditioning.branches):
        for frames in conditioning.runs(branch):
            runs.append(Run(row, frames, len(texts)))
            texts.append(conditioning.embed(branch, slice(frames.start, frames.start + 1)))
    return torch.cat(texts), runs


class TextAttention:
    """Stands in for a cross-attention's processor. All of a net's share `heard`, by the number of the call; a frame has so many tokens."""

    def __init__(self, view: View, heard: dict[int, Heard], *, tokens: int):
        self.view, self.heard, self.tokens = view, heard, tokens

    def begin(self, heard: Heard) -> None:
        """Say what frames attend to in the call at work."""
        self.heard[self.view.call.number] = heard

    def __call__(
        self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, *_: Any, **__: Any
    ) -> torch.Tensor:
        """Return the attention's output, of the shape of the hidden states; texts, (S, L, D), come by that name before 0.35.

        Hidden states are (B, F x P, D), or (B x F, P, D) where each frame has a time of its own.
        """
        heard, sizes = self.heard[self.view.call.number], {"f": len(self.view.clip), "p": self.tokens, "n": attn.heads}
        flat = rearrange(attn.norm_q(attn.to_q(hidden_states)), "b s d -> (b s) d")
        q = rearrange(flat, "(b f p) (n d) -> b f p n d", **sizes)
        seen = None if heard.pictures_BLD is None else _look(attn, q, heard.pictures_BLD)
        keys = rearrange(attn.norm_k(attn.to_k(encoder_hidden_states)), "s l (n d) -> s n l d", n=attn.heads)
        values = rearrange(attn.to_v(encoder_hidden_states), "s l (n d) -> s n l d", n=attn.heads)
        for run in heard.runs:
            q[run.branch, run.frames] = _attend(q[run.branch, run.frames], keys[run.text], values[run.text])
        out = q if seen is None else q.add_(seen)
        return attn.to_out[1](attn.to_out[0](rearrange(out, "b f p n d -> (b f p) (n d)").view_as(hidden_states)))


def _look(attn: Any, q_BFPND: torch.Tensor, pictures_BLD: torch.Tensor) -> torch.Tensor:
    """Return what all tokens get of the pictures', (B, F, P, N, D), by keys and values of their own."""
    keys = rearrange(attn.norm_added_k(attn.add_k_proj(pictures_BLD)), "1 l (n d) -> n l d", n=attn.heads)
    values = rearrange(attn.add_v_proj(pictures_BLD), "1 l (n d) -> n l d", n=attn.heads)
    return torch.stack([_attend(q_FPND, keys, values) for q_FPND in q_BFPND])


def _attend(q_FPND: torch.Tensor, k_NLD: torch.Tensor, v_NLD: torch.Tensor) -> torch.Tensor:
    """Return what the tokens of frames get of one text, (F, P, N, D); it takes the memory of their queries, and no name keeps it."""
    tokens = rearrange(q_FPND, "f p n d -> 1 n (f p) d")
    heard = scaled_dot_product_attention(tokens, k_NLD[None], v_NLD[None])
    return rearrange(heard, "1 n (f p) d -> f p n d", p=q_FPND.shape[1])
