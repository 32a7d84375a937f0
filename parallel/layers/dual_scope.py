"""Dual-scope 3D attention over a cut time axis: an attention processor for Wan's self-attentions; one exchange an attention.

The tokens of a frame attend to all tokens of its local and global frames and to nothing else (places.py). Hidden states
travel, half the bytes of keys and values, and are projected by the receiver; or keys and values do, before their rotation. What
needs nobody is computed while they are under way, so that the exchange hides also where there is one branch and no turn.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from math import prod
from typing import Any

import torch
from einops import rearrange
from torch.nn.functional import scaled_dot_product_attention

from ..comm.fetch import Route
from ..maths import places, rotary, scope
from .exchange import Exchange
from .travel import Travel
from .view import View

KeysValues = tuple[torch.Tensor, torch.Tensor]  # (B, F, P, N, D) each
TURNING = 16  # bytes a number while it is turned, the parts of it in float32
ALIGNED = 8  # a head's width is padded to a multiple of it, for fused kernels


@dataclass(frozen=True)
class Grid:
    """A frame's tokens, and how a head's width turns with their positions."""

    size: tuple[int, int]  # tokens, height and width
    head: int

    def turn(self, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rotation of frames at some places."""
        return rotary.table(at, self.size, self.head)

    @property
    def time_width(self) -> int:
        """How much of a head's width turns with time; it comes first."""
        return rotary.widths(self.head)[0]


@dataclass(frozen=True)
class Moved:
    """The (query, key) pairs of some queries, row by row, whose keys do not stand at their true place; all vectors are of pairs."""

    ends: tuple[int, ...]  # how many there are up to each query
    pairs: torch.Tensor  # query x keys + key
    frames: torch.Tensor  # of the key, among those that are kept unturned
    places: torch.Tensor  # where it stands instead

    def of(self, queries: slice, keys: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return pairs, frames and places of some of the queries, counted from the first of them."""
        first = self.ends[queries.start - 1] if queries.start else 0
        some = slice(first, self.ends[queries.stop - 1])
        return self.pairs[some] - queries.start * keys, self.frames[some], self.places[some]


@dataclass(frozen=True)
class Queries:
    """Consecutive query frames with as many keys each; tensors are (queries, keys)."""

    frames: slice  # among own frames
    keys: torch.Tensor  # places in the store: own frames and arrivals
    moved: Moved
    is_local: torch.Tensor


class Plan:
    """What a clip's queries attend to while global frames stand still: the route of the keys, and the places where they stand."""

    def __init__(self, view: View, span: scope.Span, rule: places.Rule):
        self.route = view.route([scope.keys(clip, span) for clip in view.clips])
        self.store = [*view.clip, *self.route.arrivals]  # the frames that keys are made of
        self.device = view.group.device
        every = [places.keys(query, span, rule) for query in view.clip]
        movers = {frame for each in every for frame, place in zip(each.frames, each.places) if frame != place}
        kept = sorted(movers, key=self.route.places.__getitem__)
        self.kept = self._tensor([self.route.places[frame] for frame in kept])  # unturned: global frames, few of a long clip
        self.queries = [self._queries(run, kept) for run in _runs_of_equal_length(every)]

    def _queries(self, run: dict[int, places.Keys], kept: list[int]) -> Queries:
        """Return consecutive queries by their number among own frames."""
        pairs = [(frame, place) for each in run.values() for frame, place in zip(each.frames, each.places)]
        moved = [number for number, (frame, place) in enumerate(pairs) if frame != place]
        width = len(pairs) // len(run)
        row = {frame: number for number, frame in enumerate(kept)}
        return Queries(
            frames=slice(min(run), max(run) + 1),
            keys=self._tensor([self.route.places[frame] for frame, _ in pairs]).view(len(run), width),
            moved=Moved(
                ends=tuple(bisect_left(moved, (query + 1) * width) for query in range(len(run))),
                pairs=self._tensor(moved),
                frames=self._tensor([row[pairs[number][0]] for number in moved]),
                places=self._tensor([pairs[number][1] for number in moved]),
            ),
            is_local=torch.tensor([each.is_local for each in run.values()], device=self.device),
        )

    @cached_property
    def true_places(self) -> torch.Tensor:
        """Where the frames of the store are."""
        return self._tensor(self.store)

    def _tensor(self, numbers: list) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self.device)


def _runs_of_equal_length(every: list[places.Keys]) -> list[dict[int, places.Keys]]:
    """Return the keys of consecutive queries, by number, in runs of queries that have as many."""
    groups = groupby(range(len(every)), key=lambda query: len(every[query].frames))
    return [{query: every[query] for query in run} for _, run in groups]


@dataclass
class Plans:
    """The plan of each step: the same one or, where global frames rotate, that of the last step that asked."""

    view: View
    rule: places.Rule
    rotates: bool = False
    found: dict[scope.Span, Plan] = field(default_factory=dict)

    def of(self, step: int) -> Plan:
        """Return the plan of a step of the schedule."""
        span = scope.at_step(self.view.span, step) if self.rotates else self.view.span
        if span not in self.found:
            self.found = {span: Plan(self.view, span, self.rule)}
        return self.found[span]


class DualScopeAttention:
    """Stands in for a self-attention's processor on a clip's tokens; uses and leaves the module's own weights.

    They are (B, F x P, D), or (B x F, P, D) where each frame has a time of its own.
    """

    def __init__(self, view: View, plans: Plans, grid: Grid, *, travel: Travel, trained_keys: int | None = None):
        self.view, self.plans, self.grid = view, plans, grid
        self.travel, self.trained_keys = travel, trained_keys
        self.exchange: Exchange | None = None

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *unused: Any, **unused_too: Any) -> torch.Tensor:
        """Return the attention's output, of the input's shape."""
        plan = self.plans.of(self.view.call.step)
        flat = rearrange(hidden_states, "b s d -> (b s) d")
        x_BFPD = rearrange(flat, "(b f p) d -> b f p d", f=len(self.view.clip), p=prod(self.grid.size))
        out = self._attend(plan, *self._project(attn, x_BFPD, plan.route))
        made = attn.to_out[0](rearrange(out, "b f p n d -> (b f p) (n d)").view_as(hidden_states))
        return attn.to_out[1](made)

    def _project(self, attn: Any, x_BFPD: torch.Tensor, route: Route) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries of own frames, and keys and values of own frames and of arrivals; none of it is rotated yet."""
        q, own, far = (self._send_frames if self.travel == "hidden_states" else self._send_keys_values)(attn, x_BFPD, route)
        if not route.arrivals:
            return q, *own
        parts = [list(both) for both in zip(own, far)]
        del own, far  # so that what is joined is free before the next is
        raw = torch.cat(parts.pop(0), dim=1)
        return q, raw, torch.cat(parts.pop(0), dim=1)

    def _send_frames(self, attn: Any, x_BFPD: torch.Tensor, route: Route) -> tuple[torch.Tensor, KeysValues, KeysValues]:
        begun = self._exchange(route).begin(x_BFPD)
        own, q = keys_values(attn, x_BFPD), queries(attn, x_BFPD)
        arrivals = begun.finish()
        return q, own, arrivals.make_once("keys and values", lambda: keys_values(attn, arrivals.frames))

    def _send_keys_values(self, attn: Any, x_BFPD: torch.Tensor, route: Route) -> tuple[torch.Tensor, KeysValues, KeysValues]:
        own = keys_values(attn, x_BFPD)
        begun = self._exchange(route).begin(torch.stack(own, dim=3))
        q = queries(attn, x_BFPD)
        keys, values = begun.finish().frames.unbind(dim=3)
        return q, own, (keys, values)

    def _exchange(self, route: Route) -> Exchange:
        """Return what fetches along a route: the same one as long as the route is."""
        if self.exchange is None or self.exchange.route is not route:
            self.exchange = Exchange(route, self.view.group, self.view.call)
        return self.exchange

    def _attend(self, plan: Plan, q: torch.Tensor, raw: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Return what each own frame gets of its keys, (B, F, P, N, D), in the memory of the queries; keys are turned in theirs."""
        kept = raw[:, plan.kept, :, :, : self.grid.time_width]
        turned = self._turn(raw, plan.true_places)
        q = self._turn(q, plan.true_places[: q.shape[1]])
        for some in plan.queries:
            for cut in self._slices(some, q):
                frames = slice(some.frames.start + cut.start, some.frames.start + cut.stop)
                seen = self._keys(some, cut, kept, turned), values[:, some.keys[cut]]
                q[:, frames] = self._attend_some(q[:, frames], *seen, some.is_local[cut])
                del seen  # before the next are gathered
        return q

    def _turn(self, x_BFPND: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """Turn frames to their places, in place and some at a time, and return them."""
        bytes_each = TURNING * x_BFPND[:, 0].numel()
        for cut in self.view.slices.over_frames(len(at), bytes_each):
            x_BFPND[:, cut] = rotary.rotate(x_BFPND[:, cut], self.grid.turn(at[cut]))
        return x_BFPND

    def _turn_in_time(self, x_BFPND: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """Return the part of frames that stands for time, turned to their places; rows and columns stay where they are."""
        return rotary.rotate(x_BFPND, rotary.time_table(at, self.grid.head))

    def _slices(self, some: Queries, q: torch.Tensor) -> Iterator[slice]:
        queries, keys = some.keys.shape
        bytes_each = 2 * keys * q[:, 0].numel() * q.element_size()
        return self.view.slices.over_frames(queries, bytes_each, heads=len(q) * q.shape[3])

    def _keys(self, some: Queries, cut: slice, kept: torch.Tensor, turned: torch.Tensor) -> torch.Tensor:
        """Return the keys of some queries, each at its place, (B, Q, K, P, N, D)."""
        found = turned[:, some.keys[cut]]
        pairs, frames, moved_to = some.moved.of(cut, some.keys.shape[1])
        if len(pairs):
            time = self.grid.time_width
            found.flatten(1, 2)[:, pairs, :, :, :time] = self._turn_in_time(kept[:, frames], moved_to)
        return found

    def _attend_some(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, is_local: torch.Tensor) -> torch.Tensor:
        branches, head = q.shape[0], q.shape[-1]
        if self.trained_keys is not None:
            q = q * logit_scale(k.shape[2], self.trained_keys, tokens=k.shape[3])
        q_, k_, v_ = rearrange(q, "b f p n d -> (b f) n p d"), *(rearrange(x, "b f k p n d -> (b f) n (k p) d") for x in (k, v))
        biases = self.view.call.biases
        if any(biases):
            bias_FK = torch.where(is_local, biases[0], biases[1]).to(q)
            bias = bias_FK.repeat_interleave(k.shape[3], 1).repeat(branches, 1)[:, None, :, None]
            q_, k_ = with_biases(q_, k_, bias)
            v_ = torch.cat([v_, v_.new_zeros(*v_.shape[:-1], ALIGNED)], dim=-1)
        out = scaled_dot_product_attention(q_, k_, v_, scale=head**-0.5)[..., :head]
        return rearrange(out, "(b f) n p d -> b f p n d", b=branches)


def logit_scale(keys: int, trained_keys: int, *, tokens: int) -> float:
    """Return log(keys) / log(trained keys), of frames with so many tokens, each of which is a key of the softmax."""
    return math.log(keys * tokens) / math.log(trained_keys * tokens)


def queries(attn: Any, x_BFPD: torch.Tensor) -> torch.Tensor:
    """Return the queries of frames, (B, F, P, N, D)."""
    return _split_heads(attn.norm_q(attn.to_q(x_BFPD)), attn.heads)


def keys_values(attn: Any, x_BFPD: torch.Tensor) -> KeysValues:
    """Return the keys and values of frames, (B, F, P, N, D) each."""
    return _split_heads(attn.norm_k(attn.to_k(x_BFPD)), attn.heads), _split_heads(attn.to_v(x_BFPD), attn.heads)


def with_biases(q: torch.Tensor, k: torch.Tensor, bias: torch.Tensor) -> KeysValues:
    """Return queries and keys, (B, N, Q or K, D), with a feature more whose product is a bias on the logits: no mask is needed.

    `bias` is (B, 1, K, 1). The rest of what is added is zero, to keep the width even for fused kernels.
    """
    scale = q.shape[-1] ** 0.5
    padding = q.new_zeros(1).expand(*q.shape[:-1], ALIGNED - 1), k.new_zeros(1).expand(*k.shape[:-1], ALIGNED - 1)
    more_q = torch.cat([q, q.new_full((1,), scale).expand(*q.shape[:-1], 1), padding[0]], dim=-1)
    more_k = torch.cat([k, bias.expand(*k.shape[:-1], 1), padding[1]], dim=-1)
    return more_q, more_k


def _split_heads(x_BFPD: torch.Tensor, heads: int) -> torch.Tensor:
    return rearrange(x_BFPD, "b f p (n d) -> b f p n d", n=heads)
