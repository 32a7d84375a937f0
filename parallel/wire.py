"""One message over an authenticated channel that is bound to the loopback."""

import socket
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener

from .protocol import Frozen, Message, from_bytes, to_bytes

HOST = "127.0.0.1"
MAX_MESSAGE = 64 * 2**20  # bytes; a longer one ends the connection


def listen(key: bytes, backlog: int) -> Listener:
    """Return a listener on a free loopback port; `accept` lets in only who knows the key."""
    return Listener((HOST, 0), backlog=backlog, authkey=key)


def connect(port: int, key: bytes) -> Connection:
    """Return a channel to the host's listener; raise AuthenticationError if the keys differ."""
    return Client((HOST, port), authkey=key)


def knock(listener: Listener) -> None:
    """Wake whoever waits on a listener, as a stranger who says nothing."""
    with suppress(OSError), socket.create_connection((HOST, listener.address[1]), timeout=1):
        pass


def send(channel: Connection, message: Frozen) -> None:
    """Send one message; raise OSError if the other side is gone."""
    channel.send_bytes(to_bytes(message))


def receive(channel: Connection) -> Message:
    """Return the next message; raise EOFError or OSError if the other side is gone."""
    return from_bytes(channel.recv_bytes(MAX_MESSAGE))
