"""One rank's view of the video: its clip, and the routes that its layers fetch along. Fixed for a job."""

from dataclasses import dataclass, field
from functools import cached_property

import torch

from ..comm.fetch import Lane, Route, drive
from ..comm.group import Group
from ..maths import clips, scope
from ..maths.slices import Slices
from .exchange import Call


@dataclass(frozen=True)
class View:
    """The plan of a job as one rank sees it. Equal on all ranks but for whose clip is `clip`, and how it is sliced."""

    group: Group
    span: scope.Span
    slices: Slices = field(default_factory=Slices)
    call: Call = field(default_factory=Call)  # the one thing that changes, between UNet calls

    @cached_property
    def clips(self) -> tuple[range, ...]:
        """All ranks' clips, as frame numbers."""
        return clips.cut(self.span.frames, self.group.size)

    @property
    def clip(self) -> range:
        """This rank's clip."""
        return self.clips[self.group.rank]

    @cached_property
    def halos(self) -> dict[int, "Halo"]:
        """The halos that were asked for, by their reach."""
        return {}

    def halo(self, reach: int) -> "Halo":
        """Return the way to the frames within `reach` of the clip, for a temporal convolution."""
        if reach not in self.halos:
            self.halos[reach] = Halo(self, reach)
        return self.halos[reach]

    @cached_property
    def scope_lane(self) -> Lane:
        """The way to both scopes of attention in one message."""
        return self.drive([scope.keys(clip, self.span) for clip in self.clips])

    @cached_property
    def blocks(self) -> tuple[scope.Block, ...]:
        """The clip's queries in blocks, each with its keys: first those of the clip itself, then those that come."""
        found = scope.blocks(self.clip, self.span, scope.block_length(self.span))
        return tuple(self._own_first(block) for block in found)

    def _own_first(self, block: scope.Block) -> scope.Block:
        keys = tuple(sorted(block.keys, key=lambda key: key not in self.clip))
        return scope.Block(block.queries, keys, scope.kinds(block.queries, keys, self.span))

    @cached_property
    def block_places(self) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        """For each block, where its keys are: among own frames, and among arrivals."""
        return tuple((self._places(block, own=True), self._places(block, own=False)) for block in self.blocks)

    def _places(self, block: scope.Block, *, own: bool) -> torch.Tensor:
        lead = 0 if own else len(self.clip)
        places = [self.scope_lane.places[key] - lead for key in block.keys if (key in self.clip) == own]
        return torch.tensor(places, dtype=torch.long, device=self.group.device)

    def drive(self, wanted: list[tuple[int, ...]]) -> Lane:
        """Return this rank's part of a route to the frames that each rank wants."""
        return drive(Route(self.clips, tuple(wanted)), self.group.rank, self.group.device)


class Halo:
    """The frames beside a clip. `before` and `after` count the zero frames that pad the true ends of the video."""

    def __init__(self, view: View, reach: int):
        span, clip = view.span, view.clip
        windows = [scope.window(c, reach, span.frames, span.loop) for c in view.clips]
        self.lane = view.drive(windows)
        around = range(clip.start - reach, clip.stop + reach)
        inside = [frame % span.frames if span.loop else frame for frame in around]
        inside = [frame for frame in inside if 0 <= frame < span.frames]
        self.before = 0 if span.loop else max(0, -around.start)
        self.after = 0 if span.loop else max(0, around.stop - span.frames)
        lead = reach - self.before
        places = [self.lane.places[frame] for frame in inside]
        self.left, self.right = places[:lead], places[lead + len(clip) :]

    def widen(self, own_FCP: torch.Tensor, edges_ECP: torch.Tensor) -> torch.Tensor:
        """Return own frames with the halo on both sides; where the video ends, any finite frame stands in for zeros to come."""
        left, right = ([_pick(own_FCP, edges_ECP, place) for place in places] for places in (self.left, self.right))
        return torch.cat([*[own_FCP[:1]] * self.before, *left, own_FCP, *right, *[own_FCP[-1:]] * self.after])


def _pick(own_FCP: torch.Tensor, edges_ECP: torch.Tensor, place: int) -> torch.Tensor:
    inside = place < len(own_FCP)
    return own_FCP[place : place + 1] if inside else edges_ECP[place - len(own_FCP) :][:1]
