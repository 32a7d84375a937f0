"""One place in a UNet where frames are fetched, call after call: exact, or with what others sent some steps ago (stale.py)."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from ..comm.fetch import Pending, Route, fetch
from ..comm.group import Group
from .call import Call
from .stale import KeptMessage, Mode

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


@dataclass(frozen=True)
class Begun:
    """An exchange under way: of this step, or one that an earlier step kept."""

    call: Call
    pending: Pending
    header: torch.Tensor | None
    made: dict[Hashable, Any] | None = None  # of one that an earlier step kept: what stale steps made of it

    def finish(self) -> Arrivals:
        """Return what comes. While a message of this step is under way the other calls of the step work."""
        if self.made is None:  # one of an earlier step had a step to come: the turn is not passed on
            self.call.turns.pass_on()
        return Arrivals(*self.pending.wait(self.header), self.made)


class Exchange:
    """Fetch along one route. Collective: every rank makes the same calls."""

    def __init__(self, route: Route, group: Group, call: Call):
        self.route, self.group, self.call = route, group, call

    def __call__(self, x: torch.Tensor, header: torch.Tensor | None = None) -> Arrivals:
        """Return what the route brings, of this step or of an earlier one; `x` and `header` are this rank's own."""
        return self.begin(x, header).finish()

    def begin(self, x: torch.Tensor, header: torch.Tensor | None = None) -> Begun:
        """Send what this step sends; what needs nobody can be computed before `finish`."""
        messages, key = self.call.kept.messages, (self, self.call.number)
        match self.call.mode:
            case Mode.EXACT:
                return Begun(self.call, self._send(x, header), header)
            case Mode.KEEP:
                messages[key] = KeptMessage(self._send(x, header))
                return Begun(self.call, messages[key].pending, header)
            case Mode.STALE:
                return Begun(self.call, messages[key].pending, header, messages[key].made)
            case Mode.RENEW:
                earlier = messages[key]
                messages[key] = KeptMessage(self._send(x, header))  # a later step waits for it
                return Begun(self.call, earlier.pending, header, earlier.made)

    def _send(self, x: torch.Tensor, header: torch.Tensor | None) -> Pending:
        return fetch(x, TIME, self.route, self.group, header=header)
