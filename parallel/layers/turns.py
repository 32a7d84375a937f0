"""Functions that take turns: where one waits for frames, another computes, and the exchange costs no time.

Guidance's two branches are such functions: two UNet calls that need nothing of each other. One works at a time, each on a
thread of its own, and they change at every exchange, in the same order on all ranks, so that their collectives match.
"""

import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Value_T = TypeVar("Value_T")


class Turns:
    """Whose turn it is, by number."""

    def __init__(self, device: torch.device):
        self.device = device
        self.now = 0
        self.working: list[int] = []
        self.fault: BaseException | None = None
        self.changed = threading.Condition()

    def run(self, works: Sequence[Callable[[], Value_T]]) -> list[Value_T]:
        """Return what each function returns; raise what the first that fails does, when all have ended."""
        self.now, self.working, self.fault = 0, list(range(len(works))), None
        values: dict[int, Value_T] = {}
        # In the caller's context, where torch keeps its settings.
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(self._work, number, work, values))
            for number, work in enumerate(works)
            if number
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
        if len(self.working) > 1:
            me = self.now
            with self.changed:
                self._give(self._next(me))
                self._await(me)

    def _work(self, me: int, work: Callable[[], Value_T], values: dict[int, Value_T]) -> None:
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # each thread has its own
        try:
            with self.changed:
                self._await(me)
            values[me] = work()
        except _Abandoned:
            pass
        except BaseException as fault:
            self.fault = fault  # raised by `run`, on the thread that called it
        with self.changed:
            after = self._next(me)
            self.working.remove(me)
            self._give(after)

    def _next(self, me: int) -> int:
        return self.working[(self.working.index(me) + 1) % len(self.working)]

    def _give(self, number: int) -> None:
        self.now = number
        self.changed.notify_all()

    def _await(self, me: int) -> None:
        self.changed.wait_for(lambda: self.now == me)
        if self.fault is not None:
            raise _Abandoned


class _Abandoned(Exception):
    """Ends the others when one has failed."""
