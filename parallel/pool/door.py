"""Accept the ranks' connections, and nobody else's. A stranger on the loopback may send garbage or nothing: no rank waits for it."""

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

from ..wire import channel
from ..wire.messages import Hello

HANDSHAKE_SECONDS = 10
MAX_HANDSHAKES = 64  # at once; when more come, the one that takes longest is dropped: a rank's takes milliseconds


class Door:
    """A free port on the loopback, and a queue of (rank, connection) of those who were accepted. Building it opens no thread."""

    def __init__(self, key: bytes, ranks: int):
        self.arrived: queue.SimpleQueue[tuple[int, Connection]] = queue.SimpleQueue()
        self._key = key
        self._missing = set(range(ranks))
        self._server = socket.create_server((channel.HOST, 0), backlog=128)
        self.port = self._server.getsockname()[1]
        self._in_handshake: deque[socket.socket] = deque()
        self._lock = threading.Lock()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._closed = False
        self.lacks_files: OSError | None = None  # what kept somebody out who may be a rank

    def open(self) -> None:
        """Begin to accept ranks."""
        self._acceptor.start()

    def close(self) -> None:
        """Accept nobody any more. Safe to call twice."""
        self._closed = True
        if self._acceptor.is_alive():
            channel.wake_listener(self.port)  # closing a socket does not wake who waits on it
            self._acceptor.join(timeout=1)
        self._server.close()
        with self._lock:
            for caller in self._in_handshake:
                _drop(caller)

    def _accept(self) -> None:
        while self._missing and not self._closed:
            try:
                caller, _ = self._server.accept()
            except OSError as error:
                self._look_for_want_of_files(error)
                continue  # it left again, or no descriptor is free for it
            if self._closed:
                caller.close()  # most likely `close` itself, to wake this thread
                return
            with self._lock:
                self._in_handshake.append(caller)
                if len(self._in_handshake) > MAX_HANDSHAKES:
                    _drop(self._in_handshake.popleft())
            threading.Thread(target=self._shake_hands, args=(caller,), daemon=True).start()

    def _shake_hands(self, caller: socket.socket) -> None:
        """Ask a caller for the key and its rank; hang up on one who has not."""
        connection = None
        try:
            _limit(caller, HANDSHAKE_SECONDS)
            connection = channel.authenticate(caller, self._key)
            hello = channel.receive(connection)
            _limit(caller, 0)
            with self._lock:
                if not isinstance(hello, Hello) or hello.rank not in self._missing or self._closed:
                    raise AuthenticationError("not a rank that is awaited")
                self._missing.remove(hello.rank)
            self.arrived.put((hello.rank, connection))
        except (OSError, EOFError, AuthenticationError, ValidationError) as error:
            self._look_for_want_of_files(error)
            if connection is not None:
                connection.close()
        finally:
            with self._lock, suppress(ValueError):
                self._in_handshake.remove(caller)
            caller.close()

    def _look_for_want_of_files(self, error: Exception) -> None:
        """Keep an error that may have kept a rank out: this process has no descriptor left."""
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            self.lacks_files = error


def _limit(caller: socket.socket, seconds: int) -> None:
    """Let reads fail that take longer than some seconds, 0: never. (Python's own timeout would not reach a Connection.)"""
    if os.name == "posix":
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, 0))


def _drop(caller: socket.socket) -> None:
    with suppress(OSError):
        caller.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads
