"""Open the group of ranks; who I am in it. The only file that knows a backend."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist

from ..job.errors import PeerLost

TIMEOUT = timedelta(minutes=40)  # longer than the pool is patient: it, and not a backend, decides who is stuck
OWN_FAULTS = (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError))  # the latter from 2.8 on
WARM_UP = timedelta(minutes=2)  # all ranks are there by then: well within the pool's patience with a meeting
WARM_UP_NUMBERS = 2**18  # to each other rank, float32: as large as what layers send, small messages go another way
# What to do when ranks can't meet.
CURES = {"nccl": ": start ComfyUI with NCCL_DEBUG=INFO for more words, and try NCCL_P2P_DISABLE=1, or one GPU"}


@dataclass
class Meter:
    """What communication cost so far. On CUDA, `waited` is the time that the CPU waited, not the stream."""

    waited: float = 0.0
    sent: int = 0
    messages: int = 0


@dataclass
class Link:
    """How many bytes a second this rank sends to all others together: None until that is asked for (link.py)."""

    speed: float | None = None


@dataclass(frozen=True)
class Group:
    """All ranks of a pool, as one of them sees it. `handle` is None for a world of one, which never communicates."""

    rank: int
    size: int
    device: torch.device
    handle: dist.ProcessGroup | None = None
    meter: Meter = field(default_factory=Meter)
    link: Link = field(default_factory=Link)

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
    """Meet the other ranks at the host's store and return the group, after every collective that a job uses has worked once.

    `name` keeps generations of ranks at one store apart. Raises PeerLost, with what to do, if they can't meet or exchange.
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
        warm_up(rank, size, device)
    except OWN_FAULTS:
        raise
    except RuntimeError as error:
        said = " ".join(str(error).split())[:500]
        raise PeerLost(f"the ranks could not meet over {backend} ({said}){CURES.get(backend, '')}") from error
    return Group(rank, size, device, dist.group.WORLD)


def warm_up(rank: int, size: int, device: torch.device) -> None:
    """Let every pair of ranks exchange as layers do, and all agree; raise RuntimeError if that fails, hangs or brings garbage.

    NCCL connects two ranks when they first exchange: without this a broken path between two GPUs would show in a job.
    """
    others = [peer for peer in range(size) if peer != rank]
    counts = [WARM_UP_NUMBERS * (peer != rank) for peer in range(size)]
    outbox = torch.full((sum(counts),), float(rank), device=device)
    inbox = torch.full_like(outbox, -1.0)
    word = torch.ones(1, device=device)
    for work in (
        dist.all_to_all_single(inbox, outbox, counts, counts, async_op=True),
        dist.all_reduce(word, async_op=True),
    ):
        work.wait(WARM_UP)
    for peer, came in zip(others, inbox.split(WARM_UP_NUMBERS), strict=True):
        if not bool((came == peer).all()):  # it waits for the device, too: NCCL only queues a collective
            raise RuntimeError(f"what rank {peer} sent came to rank {rank} as something else")
    if word.item() != size:
        raise RuntimeError(f"{size} ranks add up to {word.item():g} on rank {rank}")
