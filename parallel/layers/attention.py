"""Temporal self-attention over a cut time axis, dual-scope (paper sec. 4.2), as a diffusers attention processor."""

from dataclasses import dataclass, field

import torch
from diffusers.models.attention_processor import Attention

from ..comm.fetch import fetch
from ..maths import attention
from .view import View


@dataclass
class Biases:
    """What this step adds to the logits of each scope, set by the sampler between steps, and the masks that follow."""

    view: View
    trained_frames: int | None = None
    current: tuple[float, float] = (0.0, 0.0)
    masks: list[torch.Tensor | None] = field(default_factory=list)
    scales: list[torch.Tensor | None] = field(default_factory=list)

    def __post_init__(self):
        self.set(0.0, 0.0)
        device, blocks = self.view.group.device, self.view.blocks
        trained = self.trained_frames
        self.scales = [None if trained is None else attention.logit_scale(b.kinds_QK, trained).to(device) for b in blocks]

    def set(self, local: float, global_: float) -> None:
        """Set the biases for the steps to come."""
        if self.masks and (local, global_) == self.current:
            return
        self.current = (local, global_)
        masks = [attention.logit_mask(block.kinds_QK, local, global_) for block in self.view.blocks]
        self.masks = [None if mask is None else mask.to(self.view.group.device) for mask in masks]


class DualScopeProcessor:
    """Stands in for the processor of a temporal self-attention, whose tokens are the frames of one pixel."""

    def __init__(self, view: View, biases: Biases):
        self.view = view
        self.biases = biases

    def __call__(self, attn: Attention, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        """Return attn of x_PFC, P pixels by F frames of the clip."""
        assert encoder_hidden_states is None and attention_mask is None, "temporal self-attention only"
        kv_PFC = torch.cat([attn.to_k(hidden_states), attn.to_v(hidden_states)], dim=-1)
        pending = fetch(kv_PFC, 1, self.view.scope_lane, self.view.group)
        q_PNFD = _split(attn.to_q(hidden_states), attn.heads)
        if attn.norm_q is not None:
            q_PNFD = attn.norm_q(q_PNFD)
        arrived, _ = pending.wait()
        kv_PFC = torch.cat([kv_PFC, arrived], dim=1) if arrived.shape[1] else kv_PFC
        out_PNFD = self._attend(attn, q_PNFD, kv_PFC)
        out_PFC = out_PNFD.transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](out_PFC)) / attn.rescale_output_factor

    def _attend(self, attn: Attention, q_PNFD: torch.Tensor, kv_PFC: torch.Tensor) -> torch.Tensor:
        view, biases = self.view, self.biases
        out = []
        for block, places, mask, scale in zip(view.blocks, view.block_places, biases.masks, biases.scales):
            k, v = (_split(part, attn.heads) for part in kv_PFC.index_select(1, places).chunk(2, dim=-1))
            if attn.norm_k is not None:
                k = attn.norm_k(k)
            start = block.queries.start - view.clip.start
            q = q_PNFD[:, :, start : start + len(block.queries)]
            out.append(attention.attend(q, k, v, None if mask is None else mask.to(q.dtype), scale))
        return out[0] if len(out) == 1 else torch.cat(out, dim=2)


def _split(x_PFC: torch.Tensor, heads: int) -> torch.Tensor:
    """Return x as (P, N, F, D)."""
    return x_PFC.unflatten(-1, (heads, -1)).transpose(1, 2)
