"""Warm gloo ranks for tests: four processes, started once, that run the functions of one module on 1 to 4 of them.

They are forked from a process that has imported the module, and torch and diffusers with it, once for all.
"""

import importlib
import io
import multiprocessing
import traceback
from contextlib import suppress
from multiprocessing.connection import wait
from types import ModuleType

import torch
import torch.distributed as dist

from parallel.comm.group import Group, open_group

SIZE = 4


def _pack(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _unpack(data: bytes):
    return torch.load(io.BytesIO(data), weights_only=False)


def _fork(port: int, module: str, channels: list, host) -> None:
    """Import what all ranks need, be forked, and end the ranks when the host lets go; a process of its own, without threads."""
    torch.set_num_threads(1)
    functions = importlib.import_module(module)
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_serve, args=(rank, port, functions, channels)) for rank in range(SIZE)]
    for rank in ranks:
        rank.start()
    for channel in channels:  # the ranks' own: when one ends, its end is the last
        channel.close()
    with suppress(EOFError):
        host.recv_bytes()
    for rank in ranks:
        rank.kill()
        rank.join()


def _serve(rank: int, port: int, functions: ModuleType, channels: list) -> None:
    channel = channels.pop(rank)
    for other in channels:
        other.close()
    world = open_group(rank, SIZE, torch.device("cpu"), host="127.0.0.1", port=port, name="tests")
    handles = {size: dist.new_group(list(range(size))) for size in range(2, SIZE + 1)}
    while True:
        try:
            name, size, arguments = _unpack(channel.recv_bytes())
        except EOFError:
            return
        group = Group(rank, size, world.device, handles.get(size))
        try:
            answer = ("value", getattr(functions, name)(group, **arguments))
        except BaseException:
            answer = ("error", traceback.format_exc())
        channel.send_bytes(_pack(answer))


class Ranks:
    """Run a function on the first `size` ranks and return what each returned, in order of rank."""

    def __init__(self, module: str):
        self.module = module
        self._start()

    def _start(self) -> None:
        self.store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        context = multiprocessing.get_context("spawn")
        self.channels, theirs = map(list, zip(*(context.Pipe() for _ in range(SIZE))))
        host, self.hold = context.Pipe(duplex=False)
        self.template = context.Process(target=_fork, args=(self.store.port, self.module, theirs, host))
        self.template.start()
        for end in (*theirs, host):
            end.close()

    def __call__(self, name: str, size: int, **arguments) -> list:
        for channel in self.channels[:size]:
            channel.send_bytes(_pack((name, size, arguments)))
        ranks = {channel: rank for rank, channel in enumerate(self.channels[:size])}
        answers: dict[int, object] = {}
        while len(answers) < size:
            for channel in wait([channel for channel, rank in ranks.items() if rank not in answers]):
                kind, answers[ranks[channel]] = self._answer(channel)
                if kind == "error":  # the others may wait for it for ever
                    self.close()
                    self._start()
                    raise AssertionError(f"rank {ranks[channel]} of {size}:\n{answers[ranks[channel]]}")
        return [answers[rank] for rank in range(size)]

    def _answer(self, channel) -> tuple[str, object]:
        try:
            return _unpack(channel.recv_bytes())
        except EOFError:
            return "error", "it ended without a word"

    def close(self) -> None:
        """End the ranks, whatever they do, and their template."""
        for end in (*self.channels, self.hold):
            end.close()
        self.template.join()
