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
    """Stands in for a cross-attention's processor. All of a net's share `runs`: by the number of the call, which frames hear what."""

    def __init__(self, view: View, runs: dict[int, list[Run]]):
        self.view, self.runs = view, runs

    def begin(self, runs: list[Run]) -> None:
        """Say which frames hear which text in the call at work."""
        self.runs[self.view.call.number] = runs

    def __call__(
        self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, *_: Any, **__: Any
    ) -> torch.Tensor:
        """Return the attention's output, (B, F x P, D); the texts, (S, L, D), come by that name from diffusers before 0.35."""
        frames = len(self.view.clip)
        q = rearrange(attn.norm_q(attn.to_q(hidden_states)), "b (f p) (n d) -> b f p n d", f=frames, n=attn.heads)
        keys = rearrange(attn.norm_k(attn.to_k(encoder_hidden_states)), "s l (n d) -> s n l d", n=attn.heads)
        values = rearrange(attn.to_v(encoder_hidden_states), "s l (n d) -> s n l d", n=attn.heads)
        for run in self.runs[self.view.call.number]:
            q[run.branch, run.frames] = _attend(q[run.branch, run.frames], keys[run.text], values[run.text])
        return attn.to_out[1](attn.to_out[0](rearrange(q, "b f p n d -> b (f p) (n d)")))


def _attend(q_FPND: torch.Tensor, k_NLD: torch.Tensor, v_NLD: torch.Tensor) -> torch.Tensor:
    """Return what the tokens of frames get of one text, (F, P, N, D); it takes the memory of their queries, and no name keeps it."""
    tokens = rearrange(q_FPND, "f p n d -> 1 n (f p) d")
    heard = scaled_dot_product_attention(tokens, k_NLD[None], v_NLD[None])
    return rearrange(heard, "1 n (f p) d -> f p n d", p=q_FPND.shape[1])
