"""Ranks of one thread each, on this machine's cores, that run a function and return what each returns."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from parallel.comm.group import Group, open_group


def run(function: Callable[..., Any], *arguments: Any, size: int = 2) -> list[Any]:
    """Return what `function(group, *arguments)` returns on each rank; it must be importable by name."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with multiprocessing.get_context("spawn").Pool(size) as pool:
        calls = [(rank, size, store.port, function, arguments) for rank in range(size)]
        return pool.starmap(_serve, calls, chunksize=1)


def _serve(rank: int, size: int, port: int, function: Callable[..., Any], arguments: tuple) -> Any:
    torch.set_num_threads(1)
    group: Group = open_group(rank, size, torch.device("cpu"), host="127.0.0.1", port=port, name="bench")
    return function(group, *arguments)
