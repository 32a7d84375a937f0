"""How a rank's process is made: by itself, or, on Linux, forked from a template that has imported all that ranks need.

A launcher makes processes; each has the face of `subprocess.Popen`, as far as the pool looks at it.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Protocol

from ..job.errors import Stopped
from . import launch
from .forked import Invocation, Template, TemplateLost

log = logging.getLogger(__name__)
TEMPLATE = "parallel.rank.template"
PRELOADED = ("parallel.rank.serve",)
IMPORT_SECONDS = 300  # from a cold disk it can take minutes
POLL_SECONDS = 0.05


class Process(Protocol):
    """A rank's process: a number, three streams in two pipes, and how it ended."""

    pid: int
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    def poll(self) -> int | None:
        """Return the exit code (negative: the signal that ended it), None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once it has ended; raise subprocess.TimeoutExpired if that takes longer."""

    def kill(self) -> None:
        """End it now. Safe to call twice."""


class Launcher(Protocol):
    """What makes the processes of a pool. Each is polled and killed by itself (`Process`), and named by who runs it: Ranks.name."""

    def prepare(self, should_stop: Callable[[], bool]) -> None:
        """Wait until `start` takes no time; raise Stopped if the caller asks."""

    def start(self, module: str) -> Process:
        """Return a new process that runs a module of the pack, with the host's environment of now; raise OSError if it can't."""

    def stop(self) -> None:
        """End what the launcher keeps for further starts. Safe to call twice; the ranks are to be ended before."""


def fastest_launcher(ranks: int) -> Launcher:
    """Return the fastest launcher that this system has for so many ranks: one alone shares its imports with nobody."""
    return Forking() if ranks > 1 and can_fork() else Plain()


def can_fork() -> bool:
    """Say whether this system, and this build of Python, can fork a process from another one and watch it."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")


class Plain:
    """Each process is started by itself, and imports what it needs."""

    def prepare(self, should_stop: Callable[[], bool]) -> None:
        """There is nothing to wait for."""

    def start(self, module: str) -> Process:
        """Return a new process that runs a module."""
        return launch.popen(launch.command(module), launch.environment(), subprocess.PIPE)

    def stop(self) -> None:
        """Nothing is kept."""


class Forking:
    """Processes are forked from a template. Where there is none, for whatever reason, they are plain ones."""

    def __init__(self) -> None:
        self._template: Template | None = None
        # How a template was called that failed to import, took too long, or can't fork. It is not tried again: a plain rank, at
        # the same import, says why. One that could not even be started is tried again: the system may have room by then.
        self._broken: Invocation | None = None

    def prepare(self, should_stop: Callable[[], bool]) -> None:
        """Wait for a template that is as a process would be that is started now: called the same way, in the same environment."""
        invocation = Invocation(launch.command(TEMPLATE, *PRELOADED), launch.environment(), _folder())
        if self._template is not None and not self._template.serves(invocation):
            self.stop()
        if self._template is None and invocation != self._broken:
            with suppress(OSError, RuntimeError):  # a rank will say that there is no such Python, or no room for a process
                self._template = Template(invocation)
        deadline = time.monotonic() + IMPORT_SECONDS
        while self._template is not None and not self._template.is_ready(POLL_SECONDS):
            if should_stop():
                raise Stopped("stopped while the ranks started")
            if self._template.process.poll() is not None or time.monotonic() > deadline:
                log.warning("no process to fork ranks from: each imports what it needs")
                self._broken = invocation
                self.stop()

    def start(self, module: str) -> Process:
        """Return a new process that runs a module."""
        if self._template is not None:
            try:
                return self._template.fork(module)
            except TemplateLost:
                log.warning("the process that ranks are forked from is gone or does not answer: they start without it")
                if self._template.has_given_up():
                    self._broken = self._template.invocation
                self.stop()
        return Plain().start(module)

    def stop(self) -> None:
        """End the template."""
        if self._template is not None:
            self._template.end()
            self._template = None


def _folder() -> str:
    """Return the folder that the host runs in; it may be removed already."""
    with suppress(OSError):
        return os.getcwd()
    return ""
