"""One message over an authenticated channel that is bound to the loopback."""

import socket
from contextlib import ExitStack, suppress
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge

from ..job.job import Frozen
from .messages import Message, from_bytes, to_bytes

HOST = "127.0.0.1"
MAX_MESSAGE = 64 * 2**20  # bytes; a longer one ends the connection


def connect(port: int, key: bytes) -> Connection:
    """Return a channel to the host; raise AuthenticationError if the keys differ."""
    return Client((HOST, port), authkey=key)


def authenticate(caller: socket.socket, key: bytes) -> Connection:
    """Return a channel to a caller who knows the key, and to whom it is proven that we do.

    Raises AuthenticationError, EOFError or OSError if not. The socket stays the caller's to close.
    """
    with ExitStack() as on_failure:
        channel = on_failure.enter_context(Connection(caller.dup().detach()))
        deliver_challenge(channel, key)
        answer_challenge(channel, key)
        on_failure.pop_all()
    return channel


def wake_listener(port: int) -> None:
    """Wake whoever waits for callers, as one who says nothing."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        pass


def send(channel: Connection, message: Frozen) -> None:
    """Send one message; raise OSError if the other side is gone."""
    channel.send_bytes(to_bytes(message))


def receive(channel: Connection) -> Message:
    """Return the next message; raise EOFError or OSError if the other side is gone, ValidationError if it is garbage."""
    return from_bytes(channel.recv_bytes(MAX_MESSAGE))
