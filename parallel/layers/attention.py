"""A temporal transformer over a cut time axis, with dual-scope attention (paper sec. 4.2); one exchange an attention.

What travels is hidden states, half the bytes of keys and values; the receiver projects them as its own. The first exchange
also carries the moments of the group norm that comes before, with raw frames that the receiver normalises as its own.
"""

from functools import partial
from typing import cast

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from einops import rearrange
from torch import nn

from ..maths import attention, moments
from .activation import Activation
from .exchange import Exchange
from .view import View

KeysValues = tuple[torch.Tensor, torch.Tensor]  # of the same frames
OwnAndFar = tuple[torch.Tensor, torch.Tensor]  # of own frames and of arrivals: keys, or values, or places
FEED_FORWARD = 24  # numbers, times the width, that are alive a token in a gated feed-forward
ARRIVAL = 6  # the same for a token that came: raw, normalised, projected, keys and values


class Biases:
    """What is added to the logits of each scope, as the sampler says from step to step (call.py), and the masks that follow."""

    def __init__(self, view: View, trained_frames: int | None = None):
        self.view = view
        self._masks: tuple[tuple[float, float], list[torch.Tensor | None]] | None = None
        device, blocks, trained = view.group.device, view.query_blocks, trained_frames
        self.scales = [None if trained is None else attention.logit_scale(b.kinds_QK, trained).to(device) for b in blocks]

    @property
    def masks(self) -> list[torch.Tensor | None]:
        """The mask of each block of queries on this step."""
        current = self.view.call.biases
        if self._masks is None or self._masks[0] != current:
            self._masks = current, [None if mask is None else mask.to(self.view.group.device) for mask in self.make(*current)]
        return self._masks[1]

    def make(self, local: float, global_: float) -> list[torch.Tensor | None]:
        """Return the masks that biases ask for, one a block of queries."""
        return [attention.logit_mask(block.kinds_QK, local, global_) for block in self.view.query_blocks]


class FrameTransformer(nn.Module):
    """Stands in for a TransformerTemporalModel: norm, projection, blocks of self-attentions over frames, projection.

    What it returns is read `reads` times, and waits between in host memory with `offload`.
    """

    def __init__(self, model: TransformerTemporalModel, view: View, biases: Biases, *, reads: int = 1, offload: bool = False):
        super().__init__()
        self.norm, self.proj_in, self.proj_out = model.norm, model.proj_in, model.proj_out
        sites = [site for block in model.transformer_blocks for site in _sites(block, view, biases)]
        self.sites = nn.ModuleList(sites)
        self.exchanges = [Exchange(view.scope_route, view.group, view.call) for _ in sites]
        self.slices, self.heads = view.slices, max(site.attn.heads for site in sites)
        self.reads, self.offload = reads, offload

    def forward(self, hidden_states: Activation, num_frames: int = 1, return_dict: bool = False, **unused) -> tuple[Activation]:
        """Return (x plus what the blocks make of it,), (B x F, C, H, W)."""
        assert not return_dict and not any(value is not None for value in unused.values()), "as UNet3DConditionModel calls it"
        x, is_ours = hidden_states.take()  # ours: nobody reads it after this, so that it may be written over
        x_BFCP = rearrange(x, "(b f) c h w -> b f c (h w)", f=num_frames)
        state_BFPC = self._enter(x_BFCP)
        for number in range(1, len(self.sites)):
            self._continue(number, state_BFPC)
        out_BFCP = x_BFCP if is_ours else torch.empty_like(x_BFCP)
        self._leave(state_BFPC, x_BFCP, out_BFCP)
        return (Activation(out_BFCP.view_as(x), reads=self.reads, offload=self.offload),)

    def _enter(self, x_BFCP: torch.Tensor) -> torch.Tensor:
        """Return the hidden states behind the first site, (B, F, P, C); raw frames travel, with the moments of their norm."""
        own_BG3 = moments.measure_all(x_BFCP, self.norm.num_groups, self.slices)
        arrivals = self.exchanges[0](x_BFCP, own_BG3)
        assert arrivals.headers is not None
        total_BG3 = moments.merge(arrivals.headers)
        branches, frames, _, pixels = x_BFCP.shape
        state_BFPC = x_BFCP.new_empty(branches, frames, pixels, self.proj_in.out_features)
        for branch, cut in self._slices(state_BFPC):
            far_FCP, total_G3 = arrivals.frames[branch, ..., cut], total_BG3[branch]
            # With stale context these stay as the first step made them, by its moments; own frames are normalised anew.
            far_kv = arrivals.make_once((branch, cut.start), partial(self._project_raw, far_FCP, total_G3))
            near_FPC = self._project_in(x_BFCP[branch, ..., cut], total_G3)
            state_BFPC[branch, :, cut] = self.sites[0](near_FPC, far_kv)
        return state_BFPC

    def _project_in(self, x_FCP: torch.Tensor, total_G3: torch.Tensor) -> torch.Tensor:
        """Return raw frames as hidden states, (F, P, C), by the moments of the whole video."""
        return self.proj_in(rearrange(moments.normalize(x_FCP, total_G3, self.norm), "f c p -> f p c"))

    def _project_raw(self, far_FCP: torch.Tensor, total_G3: torch.Tensor) -> KeysValues:
        """Return the first site's keys and values of raw frames."""
        return cast(Site, self.sites[0]).project(self._project_in(far_FCP, total_G3))

    def _continue(self, number: int, state_BFPC: torch.Tensor) -> None:
        """Put a further site's output in the place of its input; hidden states travel.

        What was sent may still be under way when it is written over: fetch sends a copy.
        """
        site, arrivals = cast(Site, self.sites[number]), self.exchanges[number](state_BFPC)
        for branch, cut in self._slices(state_BFPC):
            far_kv = arrivals.make_once((branch, cut.start), partial(site.project, arrivals.frames[branch, :, cut]))
            state_BFPC[branch, :, cut] = site(state_BFPC[branch, :, cut], far_kv)

    def _leave(self, state_BFPC: torch.Tensor, x_BFCP: torch.Tensor, out_BFCP: torch.Tensor) -> None:
        """Fill `out`, which may be x, with x plus what was made of it."""
        for branch, cut in self._slices(state_BFPC):
            made_FCP = rearrange(self.proj_out(state_BFPC[branch, :, cut]), "f p c -> f c p")
            torch.add(x_BFCP[branch, ..., cut], made_FCP, out=out_BFCP[branch, ..., cut])

    def _slices(self, state_BFPC: torch.Tensor) -> list[tuple[int, slice]]:
        """Return what is worked on at once: a branch, and some of its pixels."""
        branches, frames, pixels, width = state_BFPC.shape
        arrivals = len(self.exchanges[0].route.arrivals)
        bytes_each = max(FEED_FORWARD * frames, ARRIVAL * (frames + arrivals)) * width * state_BFPC.element_size()
        return [(b, cut) for b in range(branches) for cut in self.slices.over_pixels(pixels, bytes_each, heads=self.heads)]


def _sites(block: BasicTransformerBlock, view: View, biases: Biases) -> list["Site"]:
    """Return a block's attentions, the last with the block's feed-forward."""
    feed_forward = (block.norm3, block.ff)
    if block.attn2 is None:
        return [Site(block.norm1, block.attn1, feed_forward, view, biases)]
    first = Site(block.norm1, block.attn1, None, view, biases)
    return [first, Site(block.norm2, block.attn2, feed_forward, view, biases)]


class Site(nn.Module):
    """What lies between two exchanges: one attention over frames and, after a block's last, its feed-forward."""

    def __init__(self, norm: nn.Module, attn: Attention, feed: tuple | None, view: View, biases: Biases):
        super().__init__()
        self.norm, self.attn = norm, attn
        self.feed = None if feed is None else nn.Sequential(*feed)
        self.view, self.biases = view, biases

    def forward(self, near_FPC: torch.Tensor, far_kv: KeysValues) -> torch.Tensor:
        """Return the hidden states of own frames after it, (F, P, C), given what `project` makes of the others' frames."""
        seen_FPC = self.norm(near_FPC)
        far_k_APC, far_v_APC = far_kv
        keys, values = (self.attn.to_k(seen_FPC), far_k_APC), (self.attn.to_v(seen_FPC), far_v_APC)
        out_FPC = torch.empty_like(near_FPC)
        for number, queries in enumerate(self.view.query_slices):  # all of a block at once, while it is in a cache
            q_PNQD = _split_heads(self.attn.to_q(seen_FPC[queries]), self.attn.heads)
            made_QPC = _join_heads(attend_block(number, q_PNQD, keys, values, self.biases))
            some_QPC = near_FPC[queries] + self.attn.to_out[0](made_QPC)
            out_FPC[queries] = some_QPC if self.feed is None else some_QPC + self.feed(some_QPC)
        return out_FPC

    def project(self, far_APC: torch.Tensor) -> KeysValues:
        """Return the keys and values, (A, P, C) each, of frames that other ranks own."""
        seen_APC = self.norm(far_APC)
        return self.attn.to_k(seen_APC), self.attn.to_v(seen_APC)


def attend_block(number: int, q_PNQD: torch.Tensor, keys: OwnAndFar, values: OwnAndFar, biases: Biases) -> torch.Tensor:
    """Return the dual-scope attention of one block's queries, (P, N, Q, D); keys and values are not in heads yet, (F, P, C)."""
    heads, places, mask = q_PNQD.shape[1], biases.view.key_places[number], biases.masks[number]
    k_PNKD = _split_heads(_gather(keys, places), heads)
    v_PNKD = _split_heads(_gather(values, places), heads)
    return attention.attend(q_PNQD, k_PNKD, v_PNKD, None if mask is None else mask.to(q_PNQD.dtype), biases.scales[number])


def _gather(both: OwnAndFar, places: OwnAndFar) -> torch.Tensor:
    """Return what is at some places in each, (K, P, C): own ones first, the order of the keys in View.query_blocks."""
    own_FPC, far_APC = both
    own, far = places
    out_KPC = own_FPC.new_empty(len(own) + len(far), *own_FPC.shape[1:])
    torch.index_select(own_FPC, 0, own, out=out_KPC[: len(own)])
    torch.index_select(far_APC, 0, far, out=out_KPC[len(own) :])
    return out_KPC


def _split_heads(x_FPC: torch.Tensor, heads: int) -> torch.Tensor:
    return rearrange(x_FPC, "f p (n d) -> p n f d", n=heads)


def _join_heads(x_PNQD: torch.Tensor) -> torch.Tensor:
    return rearrange(x_PNQD, "p n q d -> q p (n d)")
