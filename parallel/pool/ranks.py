"""One generation of rank processes: started together, ended together, never mended."""

import logging
import os
import queue
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

from torch.distributed import TCPStore

from .. import wire
from ..errors import RankLost, Stopped
from ..protocol import Start
from .door import Door

log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
WORKER = "parallel.worker"
END_SECONDS = 10
START_SECONDS = 300  # importing torch and diffusers from a cold disk can take minutes
# A host that was itself started by torchrun must not hand its own group down.
DROPPED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Ranks:
    """Rank processes and the channels to them. Building it starts them; `connect` waits until they have called back."""

    def __init__(self, devices: tuple[str, ...], threads: int | None, generation: int):
        self.devices = devices
        self.processes: list[subprocess.Popen] = []
        self.channels: list[Connection] = []
        self._key = secrets.token_bytes(32)
        self._door = Door(self._key, len(devices))
        self._store = open_store() if len(devices) > 1 else None
        with ExitStack() as undo:
            undo.callback(self.end)
            for rank, device in enumerate(devices):
                self._spawn(rank, device, len(devices), threads, generation)
            undo.pop_all()

    def _spawn(self, rank: int, device: str, size: int, threads: int | None, generation: int) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in DROPPED}
        if environment.get("PYTORCH_CUDA_ALLOC_CONF", "").startswith("backend:cudaMallocAsync"):
            del environment[
                "PYTORCH_CUDA_ALLOC_CONF"
            ]  # ComfyUI's choice for its own process; NCCL's buffers want the native one
        process = subprocess.Popen(
            [sys.executable, "-m", WORKER],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=sys.stderr.fileno() if _is_file(sys.stderr) else subprocess.DEVNULL,
            start_new_session=True,  # the terminal's Ctrl-C is for the host
        )
        self.processes.append(process)
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
        assert process.stdin is not None
        process.stdin.write(start.model_dump_json().encode() + b"\n")
        process.stdin.flush()

    def connect(self, should_stop: Callable[[], bool]) -> None:
        """Wait until every rank has called back; raise RankLost if one dies first, Stopped if the caller asks."""
        self._door.open()
        channels: dict[int, Connection] = {}
        deadline = time.monotonic() + START_SECONDS
        while len(channels) < len(self.processes):
            try:
                rank, channel = self._door.arrived.get(timeout=0.1)
                channels[rank] = channel
                self.channels.append(channel)  # for `end`, should it come first
            except queue.Empty:
                pass
            if should_stop():
                raise Stopped("stopped while the ranks started")
            for rank, process in enumerate(self.processes):
                if process.poll() is not None and rank not in channels:
                    raise RankLost(f"{self.name(rank)} ended while it started, with exit code {process.returncode}", rank=rank)
            if time.monotonic() > deadline:
                late = min(set(range(len(self.processes))) - set(channels))
                raise RankLost(f"{self.name(late)} did not start within {START_SECONDS} s", rank=late)
        self.channels = [channels[rank] for rank in range(len(self.processes))]

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

    def exit_code(self, rank: int) -> int | None:
        """Return the exit code of a rank whose channel has closed (negative: the signal that ended it)."""
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
        self._door.close()
        while not self._door.arrived.empty():
            self.channels.append(self._door.arrived.get()[1])
        for channel in self.channels:
            channel.close()
        self._store = None


def open_store() -> TCPStore:
    """Return the ranks' rendezvous, which the host owns: on a free port, without a race, and on the loopback alone."""
    if os.name != "posix":
        return TCPStore(wire.HOST, 0, is_master=True, wait_for_workers=False)
    server = socket.create_server((wire.HOST, 0), backlog=128)  # the store's own would listen on every interface
    port = server.getsockname()[1]
    return TCPStore(wire.HOST, port, is_master=True, wait_for_workers=False, master_listen_fd=server.detach())


def _is_file(stream) -> bool:
    """Say whether a stream has a file descriptor; ComfyUI and pytest put other things in place of stderr."""
    try:
        return stream.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False
