"""Stop together, between steps: what one rank was asked for, all do."""

import torch
import torch.distributed as dist

from .group import Group


def agree(flag: bool, group: Group) -> bool:
    """Return on every rank whether any rank's flag is set; raise PeerLost if one is gone.

    Collective: a rank never decides alone, or the others would wait for it.
    """
    if group.handle is None:
        return flag
    word = torch.tensor([int(flag)], dtype=torch.int32, device=group.device)
    with group.waiting():
        dist.all_reduce(word, op=dist.ReduceOp.MAX, group=group.handle)
    return bool(word.item())  # the one synchronisation of a step
