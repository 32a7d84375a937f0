"""Let the ranks in, and nobody else. A stranger on the loopback may send garbage or nothing at all: no rank waits for it."""

import errno
import os
import queue
import socket
import struct
import threading
from collections import deque
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection

from pydantic import ValidationError

from ..wire import channel as wire
from ..wire.messages import Hello

GREETING_SECONDS = 10
MAX_GREETINGS = 64  # at once; when more come, the one that takes longest is dropped: a rank's takes milliseconds


class Door:
    """A free port on the loopback, and a queue of (rank, channel) of those who came in. Building it opens no thread."""

    def __init__(self, key: bytes, ranks: int):
        self.arrived: queue.SimpleQueue[tuple[int, Connection]] = queue.SimpleQueue()
        self._key = key
        self._missing = set(range(ranks))
        self._server = socket.create_server((wire.HOST, 0), backlog=128)
        self.port = self._server.getsockname()[1]
        self._greeted: deque[socket.socket] = deque()
        self._lock = threading.Lock()
        self._porter = threading.Thread(target=self._accept, daemon=True)
        self._closed = False
        self.lacks_files: OSError | None = None  # what kept somebody out who may be a rank

    def open(self) -> None:
        """Begin to let ranks in."""
        self._porter.start()

    def close(self) -> None:
        """Let nobody in any more. Safe to call twice."""
        self._closed = True
        if self._porter.is_alive():
            wire.knock(self.port)  # closing a socket does not wake who waits on it
            self._porter.join(timeout=1)
        self._server.close()
        with self._lock:
            for caller in self._greeted:
                _drop(caller)

    def _accept(self) -> None:
        while self._missing and not self._closed:
            try:
                caller, _ = self._server.accept()
            except OSError as error:
                self._note(error)
                continue  # it left again, or no descriptor is free for it
            if self._closed:
                caller.close()  # most likely `close` itself, to wake this thread
                return
            with self._lock:
                self._greeted.append(caller)
                if len(self._greeted) > MAX_GREETINGS:
                    _drop(self._greeted.popleft())
            threading.Thread(target=self._greet, args=(caller,), daemon=True).start()

    def _greet(self, caller: socket.socket) -> None:
        """Ask a caller for the key and its rank; hang up on one who has not."""
        channel = None
        try:
            _limit(caller, GREETING_SECONDS)
            channel = wire.greet(caller, self._key)
            hello = wire.receive(channel)
            _limit(caller, 0)
            with self._lock:
                if not isinstance(hello, Hello) or hello.rank not in self._missing or self._closed:
                    raise AuthenticationError("not a rank that is awaited")
                self._missing.remove(hello.rank)
            self.arrived.put((hello.rank, channel))
        except (OSError, EOFError, AuthenticationError, ValidationError) as error:
            self._note(error)
            if channel is not None:
                channel.close()
        finally:
            with self._lock, suppress(ValueError):
                self._greeted.remove(caller)
            caller.close()

    def _note(self, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            self.lacks_files = error


def _limit(caller: socket.socket, seconds: int) -> None:
    """Let reads fail that take longer than some seconds, 0: never. (Python's own timeout would not reach a Connection.)"""
    if os.name == "posix":
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, 0))


def _drop(caller: socket.socket) -> None:
    with suppress(OSError):
        caller.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads
