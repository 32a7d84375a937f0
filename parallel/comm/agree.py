"""Stop together, between steps: rank 0 reads the flag, and all do what it read."""

import torch
import torch.distributed as dist

from .group import Group


def agree(flag: bool, group: Group) -> bool:
    """Return rank 0's flag on every rank. Collective: a rank never decides alone, or the others would wait for it."""
    if group.handle is None:
        return flag
    word = torch.tensor([int(flag)], dtype=torch.int32, device=group.device)
    with group.waiting():
        dist.broadcast(word, src=0, group=group.handle)
        return bool(word.item())  # the one synchronisation of a step
