"""How fast the link between ranks is: measured when it is first asked for, and known to the group from then on."""

import time

import torch
import torch.distributed as dist

from .group import Group

TIMED_NUMBERS = 2**21  # to all other ranks, float32: so many that a link's latency hardly counts


def link_speed(group: Group) -> float:
    """Return the bytes a second that this rank sends while all do. Collective; raises PeerLost if a rank is gone.

    Not for a rank by itself.
    """
    if group.link.speed is None:
        with group.waiting():
            group.link.speed = _measure(group)
    return group.link.speed


def _measure(group: Group) -> float:
    each = TIMED_NUMBERS // (group.size - 1)
    counts = [each * (peer != group.rank) for peer in range(group.size)]
    outbox = torch.zeros(sum(counts), device=group.device)
    inbox = torch.empty_like(outbox)
    ready = torch.ones(1, device=group.device)
    dist.all_reduce(ready, group=group.handle)
    ready.item()  # waits for all ranks, and for what the device had to do: the time is that of the exchange alone
    began = time.perf_counter()
    dist.all_to_all_single(inbox, outbox, counts, counts, group=group.handle)
    inbox[-1].item()  # waits for the device, too
    return outbox.nbytes / (time.perf_counter() - began)
