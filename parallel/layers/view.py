"""One rank's view of the video: its clip, and the routes that its layers fetch along. Fixed for a job."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch

from ..comm.fetch import Route, Routes
from ..comm.group import Group
from ..maths import clips, scope
from ..maths.slices import Slices
from .call import Call


def one_frame_each(latents: range) -> range:
    """Return the frames of the video that some latents are, of a model that makes one frame of each."""
    return latents


@dataclass(frozen=True)
class View:
    """The plan of a job as one rank sees it. Equal on all ranks but for whose clip is `clip`, and how it is sliced.

    The layers and the sampler count latents: `span`, with its `span.frames`, and `clip` are in them. Only `frames` are frames
    of the video, which are what is decoded.
    """

    group: Group
    span: scope.Span
    slices: Slices = field(default_factory=Slices)
    call: Call = field(default_factory=Call)  # the one thing that changes, between calls of the net
    frames_of: Callable[[range], range] = one_frame_each  # latents -> the frames of the video that they are

    @cached_property
    def clips(self) -> tuple[range, ...]:
        """All ranks' clips, as numbers of latents."""
        return clips.cut(self.span.frames, self.group.size)

    @property
    def clip(self) -> range:
        """This rank's clip, as numbers of latents."""
        return self.clips[self.group.rank]

    @property
    def frames(self) -> range:
        """The frames of the video that this rank's clip is."""
        return self.frames_of(self.clip)

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
    def scope_route(self) -> Route:
        """The way to both scopes of attention in one message."""
        return self.route([scope.keys(clip, self.span) for clip in self.clips])

    @cached_property
    def query_blocks(self) -> tuple[scope.QueryBlock, ...]:
        """The clip's queries in blocks, each with its keys: first those of the clip itself, then those that come.

        That order holds by `_own_first`, and attention.py gathers keys in it, or a mask's columns would be those of others.
        """
        found = scope.query_blocks(self.clip, self.span, scope.block_length(self.span))
        return tuple(self._own_first(block) for block in found)

    def _own_first(self, block: scope.QueryBlock) -> scope.QueryBlock:
        keys = tuple(sorted(block.keys, key=lambda key: key not in self.clip))
        return scope.QueryBlock(block.queries, keys, scope.kinds(block.queries, keys, self.span))

    @cached_property
    def query_slices(self) -> tuple[slice, ...]:
        """For each block of queries, where these are among own frames."""
        first = self.clip.start
        return tuple(slice(block.queries.start - first, block.queries.stop - first) for block in self.query_blocks)

    @cached_property
    def key_places(self) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        """For each block of queries, where its keys are, in its order: those among own frames, and those among arrivals."""
        return tuple((self._own_places(block), self._far_places(block)) for block in self.query_blocks)

    def _own_places(self, block: scope.QueryBlock) -> torch.Tensor:
        return self._places([key - self.clip.start for key in block.keys if key in self.clip])

    def _far_places(self, block: scope.QueryBlock) -> torch.Tensor:
        places = self.scope_route.places  # arrivals lie behind own frames
        return self._places([places[key] - len(self.clip) for key in block.keys if key not in self.clip])

    def _places(self, places: list[int]) -> torch.Tensor:
        return torch.tensor(places, dtype=torch.long, device=self.group.device)

    def route(self, wanted: list[tuple[int, ...]]) -> Route:
        """Return this rank's part of the routes to the frames that each rank wants."""
        return Routes(self.clips, tuple(wanted)).of(self.group.rank, self.group.device)


class Halo:
    """The frames beside a clip; zero frames, so many on a side, pad the true ends of the video."""

    def __init__(self, view: View, reach: int):
        sides = [scope.beside(clip, reach, view.span) for clip in view.clips]
        self.route = view.route([(*left, *right) for left, right in sides])
        left, right = sides[view.group.rank]
        self.zeros_left, self.zeros_right = reach - len(left), reach - len(right)
        # Among own frames and arrivals: in a loop of few clips a frame beside the clip may be one of its own.
        self.left = [self.route.places[frame] for frame in left]
        self.right = [self.route.places[frame] for frame in right]

    def widen(self, own_FCP: torch.Tensor, edges_ECP: torch.Tensor) -> torch.Tensor:
        """Return own frames with the halo on both sides; where the video ends, any finite frame stands in for zeros to come."""
        left = [_pick(own_FCP, edges_ECP, place) for place in self.left]
        right = [_pick(own_FCP, edges_ECP, place) for place in self.right]
        return torch.cat([*[own_FCP[:1]] * self.zeros_left, *left, own_FCP, *right, *[own_FCP[-1:]] * self.zeros_right])


def _pick(own_FCP: torch.Tensor, edges_ECP: torch.Tensor, place: int) -> torch.Tensor:
    """Return the frame at a place among own frames and arrivals, (1, C, P)."""
    if place < len(own_FCP):
        return own_FCP[place : place + 1]
    arrival = place - len(own_FCP)
    return edges_ECP[arrival : arrival + 1]
