"""Warm gloo ranks for tests: four processes, started once, that run the functions of one module on 1 to 4 of them."""

import importlib
import io
import multiprocessing
import traceback

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


def _serve(rank: int, port: int, module: str, channel) -> None:
    torch.set_num_threads(1)
    world = open_group(rank, SIZE, torch.device("cpu"), host="127.0.0.1", port=port, name="tests")
    handles = {size: dist.new_group(list(range(size))) for size in range(2, SIZE + 1)}
    functions = importlib.import_module(module)
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
        self.store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        context = multiprocessing.get_context("spawn")
        self.processes, self.channels = [], []
        for rank in range(SIZE):
            ours, theirs = context.Pipe()
            self.processes.append(context.Process(target=_serve, args=(rank, self.store.port, module, theirs), daemon=True))
            self.processes[-1].start()
            theirs.close()
            self.channels.append(ours)

    def __call__(self, name: str, size: int, **arguments) -> list:
        for channel in self.channels[:size]:
            channel.send_bytes(_pack((name, size, arguments)))
        answers = [_unpack(channel.recv_bytes()) for channel in self.channels[:size]]
        for rank, (kind, value) in enumerate(answers):
            assert kind == "value", f"rank {rank} of {size}:\n{value}"
        return [value for _, value in answers]

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        for process in self.processes:
            process.kill()
            process.join()
