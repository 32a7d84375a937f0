"""One place in a UNet where frames are fetched, call after call: exact, or with what others sent some steps ago (stale.py)."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from ..comm.fetch import Route, fetch
from ..comm.group import Group
from .call import Call
from .stale import Message, Mode

TIME = 1  # of x_BFCP and of x_BFPC
Value_T = TypeVar("Value_T")


@dataclass(frozen=True)
class Arrivals:
    """What came: frames along TIME, and the headers of all ranks (R, ...), the own one always new."""

    frames: torch.Tensor
    headers: torch.Tensor | None
    made: dict[Hashable, Any] | None = None  # of a message that stale steps use again: what the first of them made of it

    def make_once(self, part: Hashable, make: Callable[[], Value_T]) -> Value_T:
        """Return what `make` makes of a part of the frames, which is not made again for a message that is used again."""
        if self.made is None:
            return make()
        if part not in self.made:
            self.made[part] = make()
        return self.made[part]


class Exchange:
    """Fetch along one route. Collective: every rank makes the same calls."""

    def __init__(self, route: Route, group: Group, call: Call):
        self.route, self.group, self.call = route, group, call

    def __call__(self, x: torch.Tensor, header: torch.Tensor | None = None) -> Arrivals:
        """Return what the route brings, of this step or of an earlier one; `x` and `header` are this rank's own."""
        kept, place = self.call.kept.messages, (self, self.call.number)
        if self.call.mode is Mode.STALE:
            return self._read_again(kept[place], header)
        sent = fetch(x, TIME, self.route, self.group, header=header)
        if self.call.mode is Mode.RENEW:
            old, kept[place] = kept[place], Message(sent)
            return self._read_again(old, header)
        if self.call.mode is Mode.KEEP:
            kept[place] = Message(sent)
        self.call.turns.pass_on()
        frames, headers = sent.wait(header)
        return Arrivals(frames, headers)

    def _read_again(self, message: Message, header: torch.Tensor | None) -> Arrivals:
        frames, headers = message.pending.wait(header)
        return Arrivals(frames, headers, message.made)
