"""One place in a UNet where frames are fetched, call after call: exact, or with what others sent some steps ago.

Stale context (the idea of DistriFusion, arXiv 2402.19481, there for patches of one image): after some exact steps a layer uses
the frames and moments that the others' clips had some steps earlier. Nothing waits, and what was projected once is not again.
Its own frames and moments are always new. Unlike the exact exchange this makes the video depend, slightly, on where it is cut.
"""

from dataclasses import dataclass, field

import torch

from ..comm.fetch import Lane, Pending, fetch
from ..comm.group import Group
from .turns import Turns

TIME = 1  # of x_BFCP and of x_BFPC


@dataclass
class Call:
    """What the sampler says of each UNet call before it makes it. The same on all ranks."""

    branch: int = 0  # which call of the step: guidance's branches may take turns, or go one after the other
    stale: bool = False  # use what others sent before
    keep: bool = False  # send, and keep what comes for the stale steps that follow
    reuse: bool = False  # run the outermost blocks only, on what the deep ones made last
    exchanges: list["Exchange"] = field(default_factory=list)
    turns: Turns | None = None  # of branches that take turns

    def drain(self) -> None:
        """Wait for what is under way, so that no message outlives its job. Collective."""
        for exchange in self.exchanges:
            for pending in exchange.kept.values():
                pending.wait()
            exchange.kept.clear()
            exchange.source = None


class Exchange:
    """Fetch along one lane. Collective: every rank makes the same calls."""

    def __init__(self, lane: Lane, group: Group, call: Call):
        self.lane, self.group, self.call = lane, group, call
        self.kept: dict[int, Pending] = {}  # by branch
        self.source: Pending | None = None  # of what the last stale call returned
        call.exchanges.append(self)

    def __call__(self, x: torch.Tensor, note: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the frames that the lane fetches along TIME, and all ranks' notes (R, ...), the own one always new."""
        call = self.call
        old = self.kept.get(call.branch) if call.stale else None
        new = fetch(x, TIME, self.lane, self.group, note=note) if old is None or call.keep else None
        if new is not None and call.keep:
            self.kept[call.branch] = new
        if old is None:
            self._let_others_work()
        source = old or new
        assert source is not None
        self.source = source if call.stale else None  # else a message would live until the next one of its layer
        return source.wait(note)

    def _let_others_work(self) -> None:
        if self.call.turns is not None:
            branch = self.call.branch
            self.call.turns.pass_on()
            self.call.branch = branch
