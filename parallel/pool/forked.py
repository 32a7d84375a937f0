"""The host's side of a template process (rank/template.py): ranks are forked from it, and watched like any other process."""

import errno
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing.connection import wait
from typing import IO, NamedTuple

from pydantic import ValidationError

from ..wire.forks import PACKET, READY, Child, Order
from .launch import popen
from .output import Output

END_SECONDS = 10
GIVE_UP_SECONDS = 0.5  # between the last that is heard of a template that can't fork, and its end
ANSWER_SECONDS = 5.0  # of a template, which answers in milliseconds unless it is suspended
UNKNOWN = -9  # the code of a rank that outlived its template: most likely both were killed


class Invocation(NamedTuple):
    """How a process is called: all that decides what it imports."""

    command: list[str]
    environment: dict[str, str]
    folder: str


class TemplateLost(Exception):
    """A template that does not fork."""


class Template:
    """The host's side of rank/template.py. Its only door is a socket that it inherits; at its end it ends."""

    def __init__(self, invocation: Invocation):
        self.invocation = invocation
        self._ready = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as undo:
            undo.callback(self._socket.close)
            with theirs:
                self.process = popen(invocation.command, invocation.environment, theirs.fileno())
            undo.callback(self.process.kill)
            assert self.process.stdout is not None
            self._output = Output(self.process.stdout)
            undo.pop_all()

    def serves(self, invocation: Invocation) -> bool:
        """Say whether it runs, and is as a process would be that is called in this way now."""
        return self.invocation == invocation and self.process.poll() is None

    def has_given_up(self) -> bool:
        """Say whether it has ended by itself, as where it can't fork; not if a signal ended it, or if it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(GIVE_UP_SECONDS) >= 0
        return False

    def is_ready(self, timeout: float) -> bool:
        """Say whether it has imported all, after at most `timeout` seconds."""
        if not self._ready and wait([self._socket], timeout):
            with suppress(ConnectionError):
                self._ready = self._socket.recv(PACKET) == READY
        return self._ready

    def fork(self, module: str) -> "Forked":
        """Return a new process; raise TemplateLost if there comes none, OSError if the host may open no more descriptors."""
        with ExitStack() as ours:
            with ExitStack() as theirs:  # closed before the answer is waited for: the template's end then reads as an end here
                its_stdin, stdin = _pipe(theirs, ours)
                stdout, its_stdout = _pipe(ours, theirs)
                status, its_status = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                ours.enter_context(status)
                theirs.enter_context(its_status)
                self._order(module, beside=[its_stdin.fileno(), its_stdout.fileno(), its_status.fileno()])
            pid, process = _answer(status)
            ours.pop_all()
        return Forked(pid, process, status, stdin=stdin, stdout=stdout, silent=self.process.kill)

    def _order(self, module: str, beside: list[int]) -> None:
        """Send the order for a process, with the descriptors that are to be its own; raise TemplateLost if it can't be sent."""
        try:
            socket.send_fds(self._socket, [Order(module=module).model_dump_json().encode()], beside)
        except OSError as error:
            raise TemplateLost from error

    def end(self) -> None:
        """End it."""
        self._socket.close()
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):  # the system holds it: it runs no more of our code
            self.process.wait(END_SECONDS)
        self._output.close()


def _answer(status: socket.socket) -> tuple[int, int]:
    """Return the number of a process that was ordered, and a descriptor of it.

    Raises TemplateLost if it is not told of in time, OSError if this process may open no more descriptors.
    """
    status.settimeout(ANSWER_SECONDS)
    try:
        packet, descriptors, _, _ = socket.recv_fds(status, PACKET, 1)
        child = Child.model_validate_json(packet)
    except (OSError, ValidationError) as error:
        raise TemplateLost from error
    if not descriptors:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))  # the system drops a descriptor that we may not have
    os.set_inheritable(descriptors[0], False)
    return child.pid, descriptors[0]


class Forked:
    """A process that is the template's child: a descriptor of it says when it ends, and the template, by `status`, how.

    `silent` is called if the template does not say it in time: it is to end the template, so that nobody waits for it again.
    """

    def __init__(
        self,
        pid: int,
        process: int,
        status: socket.socket,
        *,
        stdin: IO[bytes],
        stdout: IO[bytes],
        silent: Callable[[], None],
    ):
        self.pid = pid
        self.stdin: IO[bytes] | None = stdin
        self.stdout: IO[bytes] | None = stdout
        self.returncode: int | None = None
        self._process, self._status, self._silent = process, status, silent
        self._lock = threading.Lock()  # as Popen's methods, these may be called from several threads

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once it has ended; raise subprocess.TimeoutExpired if that takes longer."""
        with self._lock:
            if self.returncode is not None:
                return self.returncode
            process = os.dup(self._process)  # another thread may close it as this one waits
        try:
            if not wait([process], timeout):
                raise subprocess.TimeoutExpired(f"rank process {self.pid}", timeout or 0)
        finally:
            os.close(process)
        with self._lock:
            if self.returncode is None:
                self.returncode = self._read_code()
                os.close(self._process)
                self._status.close()
            return self.returncode

    def kill(self) -> None:
        """End it now. Safe to call twice."""
        with self._lock:
            if self.returncode is None:
                with suppress(ProcessLookupError):  # its number may be another's by now; the descriptor never is
                    signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def _read_code(self) -> int:
        """Return the exit code, once it has ended."""
        try:
            code = Child.model_validate_json(self._status.recv(PACKET)).code
        except TimeoutError:
            self._silent()
            return UNKNOWN
        except (OSError, ValidationError):
            return UNKNOWN  # the template is gone
        return UNKNOWN if code is None else code


def _pipe(reader: ExitStack, writer: ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """Return the ends of a new pipe, to read and to write. Each is closed with the stack of who has it."""
    read, write = os.pipe()
    return reader.enter_context(_unbuffered(read, "rb")), writer.enter_context(_unbuffered(write, "wb"))


def _unbuffered(descriptor: int, mode: str) -> IO[bytes]:
    return open(descriptor, mode, buffering=0)
