"""A temporal transformer over a cut time axis, with dual-scope attention (paper sec. 4.2); one exchange an attention.

What travels is hidden states, half the bytes of keys and values; the receiver projects them as its own. The first exchange
also carries the moments of the group norm that comes before, with raw frames that the receiver normalises as its own.
"""

from dataclasses import dataclass, field
from typing import cast

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import nn

from ..comm.fetch import Pending
from ..maths import attention, moments
from .activation import Activation
from .exchange import Exchange
from .view import View

Pair = tuple[torch.Tensor, torch.Tensor]  # keys and values, or own frames and arrivals
FEED_FORWARD = 24  # numbers, times the width, that are alive a token in a gated feed-forward
ARRIVAL = 6  # the same for a token that came: raw, normalised, projected, keys and values


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


class FrameTransformer(nn.Module):
    """Stands in for a TransformerTemporalModel: norm, projection, blocks of self-attentions over frames, projection.

    What it returns is read `reads` times, and parked between with `park`.
    """

    def __init__(self, model: TransformerTemporalModel, view: View, biases: Biases, *, reads: int = 1, park: bool = False):
        super().__init__()
        self.norm, self.proj_in, self.proj_out = model.norm, model.proj_in, model.proj_out
        sites = [site for block in model.transformer_blocks for site in _sites(block, view, biases)]
        self.sites = nn.ModuleList(sites)
        self.exchanges = [Exchange(view.scope_lane, view.group, view.call) for _ in sites]
        self.slices, self.heads = view.slices, max(site.attn.heads for site in sites)
        self.reads, self.park = reads, park

    def forward(self, hidden_states: Activation, num_frames: int = 1, return_dict: bool = False, **unused) -> tuple[Activation]:
        """Return (x plus what the blocks make of it,), (B x F, C, H, W)."""
        assert not return_dict and not any(value is not None for value in unused.values()), "as UNet3DConditionModel calls it"
        x, ours = hidden_states.take()
        x_BFCP = x.unflatten(0, (-1, num_frames)).flatten(3)
        out_BFCP = x_BFCP if ours else torch.empty_like(x_BFCP)
        own = moments.measure_all(x_BFCP, self.norm.num_groups, self.slices)
        far_BACP, parts = self.exchanges[0](x_BFCP, own)
        assert parts is not None
        total_BG3 = moments.merge(parts)
        state_BFPC = x_BFCP.new_empty(*x_BFCP.shape[:2], x_BFCP.shape[3], self.proj_in.out_features)
        first, last = 0, len(self.sites) - 1
        for place, (module, exchange) in enumerate(zip(self.sites, self.exchanges)):
            site = cast(Site, module)
            far_BAPC = state_BFPC  # the first site's come raw
            if place != first:
                far_BAPC, _ = exchange(state_BFPC)
            projected = site.projected(exchange)
            for number, (branch, cut) in enumerate(self._slices(state_BFPC, far_BACP.shape[1])):
                near_FPC = state_BFPC[branch, :, cut]
                if place == first:
                    near_FPC = self._enter(x_BFCP[branch, ..., cut], total_BG3[branch])
                if number not in projected:
                    far_APC = far_BAPC[branch, :, cut]
                    if place == first:
                        far_APC = self._enter(far_BACP[branch, ..., cut], total_BG3[branch])
                    projected[number] = site.project(far_APC)
                near_FPC = site(near_FPC, *projected[number] if exchange.call.stale else projected.pop(number))
                if place == last:
                    out_BFCP[branch, ..., cut] = x_BFCP[branch, ..., cut] + self.proj_out(near_FPC).transpose(1, 2)
                else:
                    state_BFPC[branch, :, cut] = near_FPC
        return (Activation(out_BFCP.view_as(x), reads=self.reads, park=self.park),)

    def _enter(self, x_FCP: torch.Tensor, total_G3: torch.Tensor) -> torch.Tensor:
        """Return raw frames as the blocks' hidden states, (F, P, C)."""
        return self.proj_in(moments.normalize(x_FCP, total_G3, self.norm).transpose(1, 2))

    def _slices(self, state_BFPC: torch.Tensor, arrivals: int):
        branches, frames, pixels, width = state_BFPC.shape
        bytes_each = max(FEED_FORWARD * frames, ARRIVAL * (frames + arrivals)) * width * state_BFPC.element_size()
        return [(b, cut) for b in range(branches) for cut in self.slices.over_pixels(pixels, bytes_each, heads=self.heads)]


def _sites(block: nn.Module, view: View, biases: Biases) -> list["Site"]:
    assert block.norm_type == "layer_norm" and block.pos_embed is None, "a temporal block of a UNet3DConditionModel"
    second = [] if block.attn2 is None else [(block.norm2, block.attn2)]
    pairs = [(block.norm1, block.attn1), *second]
    feeds = [None] * (len(pairs) - 1) + [(block.norm3, block.ff)]
    return [Site(norm, attn, feed, view, biases) for (norm, attn), feed in zip(pairs, feeds)]


class Site(nn.Module):
    """What lies between two exchanges: one attention over frames and, after a block's last, its feed-forward."""

    def __init__(self, norm: nn.Module, attn: Attention, feed: tuple | None, view: View, biases: Biases):
        super().__init__()
        assert attn.norm_q is None and attn.norm_k is None and attn.rescale_output_factor == 1 and not attn.residual_connection
        self.norm, self.attn = norm, attn
        self.feed = None if feed is None else nn.Sequential(*feed)
        self.view, self.biases = view, biases
        self.stale: dict[int, tuple[Pending | None, dict[int, Pair]]] = {}  # by branch

    def forward(self, near_FPC: torch.Tensor, far_k_APC: torch.Tensor, far_v_APC: torch.Tensor) -> torch.Tensor:
        """Return the hidden states of own frames after it, (F, P, C), given the keys and values that other ranks own."""
        seen_FPC = self.norm(near_FPC)
        k, v = (self.attn.to_k(seen_FPC), far_k_APC), (self.attn.to_v(seen_FPC), far_v_APC)
        out_FPC = torch.empty_like(near_FPC)
        for number, block in enumerate(self.view.blocks):  # all of a block at once, while it is in a cache
            start = block.queries.start - self.view.clip.start
            cut = slice(start, start + len(block.queries))
            q_PNQD = _split(self.attn.to_q(seen_FPC[cut]), self.attn.heads)
            made_PNQD = attend_block(number, q_PNQD, k, v, self.biases)
            some_QPC = near_FPC[cut] + self.attn.to_out[0](made_PNQD.permute(2, 0, 1, 3).flatten(2))
            out_FPC[cut] = some_QPC if self.feed is None else some_QPC + self.feed(some_QPC)
        return out_FPC

    def project(self, far_APC: torch.Tensor) -> Pair:
        """Return the keys and values of frames that other ranks own."""
        seen_APC = self.norm(far_APC)
        return self.attn.to_k(seen_APC), self.attn.to_v(seen_APC)

    def projected(self, exchange: Exchange) -> dict[int, Pair]:
        """Return the keys and values, by number of slice, that were made of what an exchange returned again, if any."""
        if not exchange.call.stale:
            self.stale.pop(exchange.call.branch, None)
            return {}
        source, found = self.stale.get(exchange.call.branch, (None, {}))
        if source is not exchange.source:
            found = {}
            self.stale[exchange.call.branch] = (exchange.source, found)
        return found


def attend_block(number: int, q_PNQD: torch.Tensor, k: Pair, v: Pair, biases: Biases) -> torch.Tensor:
    """Return the dual-scope attention of one block's queries, (P, N, Q, D), to keys of own frames and of arrivals, (F, P, C)."""
    places, mask = biases.view.block_places[number], biases.masks[number]
    k_PNKD, v_PNKD = (_split(_gather(*pair, *places), q_PNQD.shape[1]) for pair in (k, v))
    return attention.attend(q_PNQD, k_PNKD, v_PNKD, None if mask is None else mask.to(q_PNQD.dtype), biases.scales[number])


def _gather(own_FPC: torch.Tensor, far_APC: torch.Tensor, own: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
    out_KPC = own_FPC.new_empty(len(own) + len(far), *own_FPC.shape[1:])
    torch.index_select(own_FPC, 0, own, out=out_KPC[: len(own)])
    torch.index_select(far_APC, 0, far, out=out_KPC[len(own) :])
    return out_KPC


def _split(x_FPC: torch.Tensor, heads: int) -> torch.Tensor:
    """Return x as (P, N, F, D)."""
    return x_FPC.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)
