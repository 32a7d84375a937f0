"""One place in a UNet where frames are fetched, call after call: exact, or with what others sent a step ago.

Stale context (as in DistriFusion, arXiv 2402.19481, there for patches of one image): after some exact steps a layer uses the
frames and moments that the others' clips had one step earlier, and nothing waits. Its own frames and moments are always new.
Unlike the exact exchange this makes the video depend, slightly, on where it is cut.
"""

from dataclasses import dataclass, field

import torch

from ..comm.fetch import Lane, Pending, fetch
from ..comm.group import Group

TIME = 1  # of x_BFCP and of x_BFPC


@dataclass
class Call:
    """What the sampler says of each UNet call before it makes it. The same on all ranks."""

    branch: int = 0  # which call of the step: CFG's branches may go one after the other
    stale: bool = False  # use what others sent a step ago
    keep: bool = False  # a stale step follows: send and keep what it will use
    reuse: bool = False  # run the outermost blocks only, on what the deep ones made last
    exchanges: list["Exchange"] = field(default_factory=list)

    def drain(self) -> None:
        """Wait for what is under way, so that no message outlives its job. Collective."""
        for exchange in self.exchanges:
            for pending in exchange.kept.values():
                pending.wait()
            exchange.kept.clear()


class Exchange:
    """Fetch along one lane. Collective: every rank makes the same calls."""

    def __init__(self, lane: Lane, group: Group, call: Call):
        self.lane, self.group, self.call = lane, group, call
        self.kept: dict[int, Pending] = {}  # by branch
        call.exchanges.append(self)

    def __call__(self, x: torch.Tensor, note: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the frames that the lane fetches along TIME, and all ranks' notes (R, ...), the own one always new."""
        call = self.call
        old = self.kept.pop(call.branch, None) if call.stale else None
        if old is None or call.keep:
            pending = fetch(x, TIME, self.lane, self.group, note=note)
            if call.keep:
                self.kept[call.branch] = pending
            if old is None:
                return pending.wait()
        return old.wait(note)
