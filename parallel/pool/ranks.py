"""One generation of rank processes: started together, ended together, never mended."""

import logging
import os
import queue
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from torch.distributed import TCPStore

from ..job.errors import RankFailed, RankLost, Stopped
from ..wire import channel as wire
from ..wire.messages import Start
from .door import Door
from .launchers import Launcher, Process
from .output import Output, last_words

log = logging.getLogger(__name__)
WORKER = "parallel.rank.worker"
END_SECONDS = 10
LATE_SECONDS = 1.0  # after a rank's end: how long its call back, and what it said then, may be on its way
START_SECONDS = 300  # importing torch and diffusers from a cold disk can take minutes
WINDOWS_FAULT = 0x80000000  # exit codes from here on are the system's, such as an access violation
CRASHES = {getattr(signal, name, None) for name in ("SIGILL", "SIGABRT", "SIGFPE", "SIGSEGV", "SIGBUS")}


class Ranks:
    """Rank processes and the channels to them. Building it starts them; `connect` waits until they have called back."""

    def __init__(self, devices: tuple[str, ...], threads: int | None, generation: int, launcher: Launcher):
        self.devices = devices
        self.processes: list[Process] = []
        self.outputs: list[Output] = []
        self.channels: list[Connection] = []
        self._key = secrets.token_bytes(32)
        try:
            self._door = Door(self._key, len(devices))
            self._store: TCPStore | None = None
            with ExitStack() as undo:
                undo.callback(self.end)
                if len(devices) > 1:
                    self._store = open_store()
                for rank, device in enumerate(devices):
                    self.processes.append(launcher.start(WORKER))
                    self._introduce(rank, device, len(devices), threads, generation)
                undo.pop_all()
        except (OSError, RuntimeError) as error:  # the latter from torch's store, and where no thread can be started
            raise _not_started(error) from error

    def _introduce(self, rank: int, device: str, size: int, threads: int | None, generation: int) -> None:
        """Tell a new process who it is, and listen to what it writes."""
        process = self.processes[rank]
        assert process.stdin is not None and process.stdout is not None
        self.outputs.append(Output(process.stdout))
        start = Start(
            rank=rank,
            world_size=size,
            device=device,
            threads=threads,
            generation=generation,
            store_port=self._store.port if self._store else 0,
            channel_port=self._door.port,
            key=self._key.hex(),
        )
        with suppress(OSError):  # it has ended already: `connect` says so
            process.stdin.write(start.model_dump_json().encode() + b"\n")

    def connect(self, should_stop: Callable[[], bool]) -> None:
        """Wait until every rank has called back; raise RankFailed or RankLost if one ends first, Stopped if the caller asks."""
        self._door.open()
        channels: dict[int, Connection] = {}
        ended: dict[int, float] = {}
        deadline = time.monotonic() + START_SECONDS
        while len(channels) < len(self.processes):
            try:
                rank, channel = self._door.arrived.get(timeout=0.1)
                channels[rank] = channel
                self.channels.append(channel)  # for `end`, should it come first
            except queue.Empty:
                pass
            if self._door.lacks_files is not None:
                raise _not_started(self._door.lacks_files)
            if should_stop():
                raise Stopped("stopped while the ranks started")
            for rank in self._gone(ended) - channels.keys():
                raise self.ended(rank, starting=True)
            if time.monotonic() > deadline:
                late = min(set(range(len(self.processes))) - set(channels))
                raise RankLost(f"{self.name(late)} did not start within {START_SECONDS} s", rank=late)
        self.channels = [channels[rank] for rank in range(len(self.processes))]

    def _gone(self, ended: dict[int, float]) -> set[int]:
        """Return the ranks whose process ended a while ago, of which nothing more comes; note in `ended` when each was seen to end."""
        now = time.monotonic()
        for rank, process in enumerate(self.processes):
            if process.poll() is not None:
                ended.setdefault(rank, now)
        return {rank for rank, when in ended.items() if now - when > LATE_SECONDS}

    def alive(self) -> bool:
        """Say whether every rank's process runs."""
        return all(process.poll() is None for process in self.processes)

    def is_suspended(self, rank: int) -> bool:
        """Say whether a rank's process was stopped by a signal, where that can be seen (Linux)."""
        try:
            status = Path(f"/proc/{self.processes[rank].pid}/stat").read_text()
        except OSError:
            return False
        return status.rpartition(")")[2].split()[0] in "Tt"

    def name(self, rank: int) -> str:
        """Return how errors call a rank."""
        return f"rank {rank} on {self.devices[rank]}"

    def ended(self, rank: int, *, starting: bool = False) -> RankFailed:
        """Return what it means that a rank's process ends, or has closed its channel.

        RankFailed if it ended itself, as it started or with some words: it would again. Else RankLost: a signal ended it.
        """
        code = self._exit_code(rank)
        itself = code is not None and 0 <= code < WINDOWS_FAULT
        crash = code is not None and (-code in CRASHES or code >= WINDOWS_FAULT)
        text = self.outputs[rank].text() if itself or crash else ""
        words = last_words(text)
        said = f"{self.name(rank)} ended {'while it started' if starting else '' if words else 'without a word'}".rstrip()
        said += f", exit code {code}"
        if code == -9:
            said += ": if it was not you who killed it, the machine may have run out of memory"
        elif words:
            said += f": {words} (more of what it wrote is in the log)"
        if itself and (starting or words):
            return RankFailed(said, rank=rank, traceback=text)
        return RankLost(said, rank=rank, traceback=text, reason=str(code) if crash else "")

    def _exit_code(self, rank: int) -> int | None:
        """Return the exit code of a rank that ends (negative: the signal that ended it), None if it takes over a second."""
        try:
            return self.processes[rank].wait(timeout=1)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """End every rank now. Safe to call twice."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            try:
                process.wait(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:  # its device or disk hangs: it runs no more of our code, and ends with that
                log.error("process %d was killed, and is held by the system until its device or disk lets go", process.pid)
            if process.stdin is not None:
                process.stdin.close()
        for output in self.outputs:
            output.close()
        self._door.close()
        while not self._door.arrived.empty():
            self.channels.append(self._door.arrived.get()[1])
        for channel in self.channels:
            channel.close()
        self._store = None


def _not_started(error: Exception) -> RankFailed:
    no_python = isinstance(error, (FileNotFoundError, PermissionError))
    cure = "see whether that Python is there" if no_python else "allow more open files (ulimit -n), or free memory"
    return RankFailed(f"the ranks could not be started ({error}): {cure}", rank=None)


def open_store() -> TCPStore:
    """Return the ranks' rendezvous, which the host owns: on a free port, without a race, and on the loopback alone.

    It is libuv's server, which no stranger can hold up in the middle of a word, but where torch lacks it (Windows), or where it
    can't take a socket over (torch before 2.8).
    """
    port, taken = 0, None
    if os.name == "posix":
        server = socket.create_server((wire.HOST, 0), backlog=128)  # the store's own would listen on every interface
        port, taken = server.getsockname()[1], server.detach()
    open_at = partial(TCPStore, wire.HOST, port, is_master=True, wait_for_workers=False, master_listen_fd=taken)
    try:
        return open_at()
    except RuntimeError as error:
        if "libuv" not in str(error):
            raise
        return open_at(use_libuv=False)  # one that lacks libuv, or refuses the socket, has not taken it
