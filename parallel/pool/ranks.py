"""One generation of rank processes: started together, ended together, never mended."""

import os
import queue
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection
from pathlib import Path

from pydantic import ValidationError
from torch.distributed import TCPStore

from .. import wire
from ..errors import RankFailed, Stopped
from ..protocol import Hello, Start

ROOT = Path(__file__).resolve().parents[2]
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
        self._listener = wire.listen(self._key, backlog=len(devices))
        # The host owns the rendezvous: port 0 gives a free one without a race.
        self._store = TCPStore(wire.HOST, 0, is_master=True, wait_for_workers=False) if len(devices) > 1 else None
        self._hellos: queue.SimpleQueue[tuple[int, Connection]] = queue.SimpleQueue()
        self._door = threading.Thread(target=self._accept, daemon=True)
        self._ended = False
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
            [sys.executable, "-m", "parallel.worker"],
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
            channel_port=self._listener.address[1],
            key=self._key.hex(),
        )
        assert process.stdin is not None
        process.stdin.write(start.model_dump_json().encode() + b"\n")
        process.stdin.flush()

    def connect(self, should_stop: Callable[[], bool]) -> None:
        """Wait until every rank has called back; raise RankFailed if one dies first, Stopped if the caller asks."""
        self._door.start()
        channels: dict[int, Connection] = {}
        deadline = time.monotonic() + START_SECONDS
        while len(channels) < len(self.processes):
            try:
                rank, channel = self._hellos.get(timeout=0.1)
                channels[rank] = channel
                self.channels.append(channel)  # for `end`, should it come first
            except queue.Empty:
                pass
            if should_stop():
                raise Stopped("stopped while the ranks started")
            for rank, process in enumerate(self.processes):
                if process.poll() is not None and rank not in channels:
                    raise RankFailed(f"rank {rank} ended while it started, with exit code {process.returncode}", rank=rank)
            if time.monotonic() > deadline:
                late = min(set(range(len(self.processes))) - set(channels))
                raise RankFailed(f"rank {late} did not start within {START_SECONDS} s", rank=late)
        self.channels = [channels[rank] for rank in range(len(self.processes))]

    def _accept(self) -> None:
        """Let the ranks in, and nobody else: a stranger on the loopback is dropped, and costs only time."""
        missing = set(range(len(self.processes)))
        while missing and not self._ended:
            channel = None
            try:
                channel = self._listener.accept()
                hello = wire.receive(channel)
                if not isinstance(hello, Hello) or hello.rank not in missing:
                    raise AuthenticationError("not a rank that is awaited")
            except (OSError, EOFError, AuthenticationError, ValidationError):
                if channel is not None:
                    channel.close()
                continue
            missing.remove(hello.rank)
            self._hellos.put((hello.rank, channel))

    def alive(self) -> bool:
        """Say whether every rank's process runs."""
        return all(process.poll() is None for process in self.processes)

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
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        self._ended = True
        if self._door.is_alive():
            wire.knock(self._listener)  # closing a listener does not wake who waits on it
            self._door.join(timeout=1)
        while not self._hellos.empty():
            self.channels.append(self._hellos.get()[1])
        for channel in self.channels:
            channel.close()
        self._listener.close()
        self._store = None


def _is_file(stream) -> bool:
    """Say whether a stream has a file descriptor; ComfyUI and pytest put other things in place of stderr."""
    try:
        return stream.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False
