"""Open and close the group of ranks; who I am in it. The only file that knows a backend."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist

from ..errors import PeerLost

TIMEOUT = timedelta(minutes=40)  # longer than the pool is patient: it, and not a backend, decides who is stuck
OWN_FAULTS = (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError))  # the latter from 2.8 on
# What to do when ranks can't meet.
CURES = {"nccl": ": start ComfyUI with NCCL_DEBUG=INFO for more words, and try NCCL_P2P_DISABLE=1, or one GPU"}


@dataclass
class Meter:
    """What communication cost so far. On CUDA, `waited` is the time that the CPU waited, not the stream."""

    waited: float = 0.0
    sent: int = 0
    messages: int = 0


@dataclass(frozen=True)
class Group:
    """All ranks of a pool, as one of them sees it. `handle` is None for a world of one, which never communicates."""

    rank: int
    size: int
    device: torch.device
    handle: dist.ProcessGroup | None = None
    meter: Meter = field(default_factory=Meter)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting, and name a broken collective as what it is."""
        began = time.perf_counter()
        try:
            yield
        except OWN_FAULTS:
            raise  # this rank's own fault, and no peer's
        except RuntimeError as error:
            raise PeerLost(f"rank {self.rank} lost its peers: {str(error).splitlines()[0]}") from error
        finally:
            self.meter.waited += time.perf_counter() - began


def open_group(rank: int, size: int, device: torch.device, *, host: str, port: int, name: str) -> Group:
    """Meet the other ranks at the host's store and return the group, after one small collective of all of them.

    `name` keeps generations of ranks at one store apart.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if size == 1:
        return Group(rank, size, device)
    if host == "127.0.0.1" and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else gloo looks the host name up, which containers often lack
    backend = dist.get_default_backend_for_device(device)
    try:
        dist.init_process_group(
            backend,
            store=dist.PrefixStore(name, dist.TCPStore(host, port, is_master=False, timeout=TIMEOUT, use_libuv=False)),
            rank=rank,
            world_size=size,
            timeout=TIMEOUT,
            device_id=device if device.type == "cuda" else None,
        )
        word = torch.ones(1, device=device)
        dist.all_reduce(word)
        word.item()  # NCCL only queues it: wait here, so that what can't work fails now
    except OWN_FAULTS:
        raise
    except RuntimeError as error:
        said = " ".join(str(error).split())[:500]
        raise PeerLost(f"the ranks could not meet over {backend} ({said}){CURES.get(backend, '')}") from error
    return Group(rank, size, device, dist.group.WORLD)


def close_group(group: Group) -> None:
    """Leave the group. Collective: every rank calls it, or none does and all end."""
    if group.handle is not None:
        dist.destroy_process_group(group.handle)
