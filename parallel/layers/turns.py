"""Functions that take turns: where one waits for frames, another computes, and the exchange costs no time.

One works at a time, each on a thread of its own, and they change at every exchange, in the same order on all ranks, so that
their collectives match. The one at work is `now`; it alone changes what they share, so only the change of turn needs a lock.
"""

import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Value_T = TypeVar("Value_T")


class InOrder:
    """Functions that run one after the other: nobody takes a turn while another waits."""

    def __init__(self) -> None:
        self.now = 0  # the number of the function at work

    def run(self, works: Sequence[Callable[[], Value_T]]) -> list[Value_T]:
        """Return what each function returns."""
        values = []
        for self.now, work in enumerate(works):
            values.append(work())
        return values

    def pass_on(self) -> None:
        """Let the others work up to where each of them waits; call it where this one is about to."""


class Turns(InOrder):
    """Functions that change at every `pass_on`: the next one works until it passes on in its turn, or ends."""

    def __init__(self, device: torch.device):
        super().__init__()
        self.device = device
        self.working: list[int] = []  # those that have not ended, in the order of their turns; written by the one at work
        self.fault: BaseException | None = None  # of the first that failed: it ends the others
        self.changed = threading.Condition()  # guards `now`, and tells all when it changes

    def run(self, works: Sequence[Callable[[], Value_T]]) -> list[Value_T]:
        """Return what each function returns; raise what the first that fails does, when all have ended."""
        self.now, self.working, self.fault = 0, list(range(len(works))), None
        values: dict[int, Value_T] = {}
        # The first works on the caller's own thread. All work in the caller's context, where torch keeps the settings of its
        # compiler (torch._dynamo.config), such as the limits that compiled.py raises.
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(self._work, number, works[number], values))
            for number in self.working[1:]
        ]
        for thread in threads:
            thread.start()
        self._work(0, works[0], values)
        for thread in threads:
            thread.join()
        if self.fault is not None:
            raise self.fault
        return [values[number] for number in range(len(works))]

    def pass_on(self) -> None:
        """Let the others work up to where each of them waits; call it where this one is about to."""
        if len(self.working) < 2:
            return
        me = self.now  # who calls this is at work
        with self.changed:
            self._give_turn(self._after(me))
            self._await_turn(me)

    def _work(self, me: int, work: Callable[[], Value_T], values: dict[int, Value_T]) -> None:
        """Run a function from its first turn to its end, which makes it the next one's turn."""
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # each thread has its own
        try:
            with self.changed:
                self._await_turn(me)
            values[me] = work()
        except _Abandoned:
            pass
        except BaseException as fault:
            self.fault = fault  # raised by `run`, on the thread that called it
        with self.changed:
            next_one = self._after(me)
            self.working.remove(me)
            self._give_turn(next_one)

    def _after(self, me: int) -> int:
        place = self.working.index(me)
        return self.working[(place + 1) % len(self.working)]

    def _give_turn(self, number: int) -> None:
        self.now = number
        self.changed.notify_all()

    def _await_turn(self, me: int) -> None:
        self.changed.wait_for(lambda: self.now == me)
        if self.fault is not None:
            raise _Abandoned


class _Abandoned(Exception):
    """Ends the others when one has failed."""
