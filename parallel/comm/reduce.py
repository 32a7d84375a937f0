"""Add up moments from everyone: mean and variance over the whole video, the same on every rank."""

import torch
import torch.distributed as dist

from ..maths.moments import merge
from .group import Group


def moments(own_BG3: torch.Tensor, group: Group) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance (B, G) of all ranks' frames from each rank's own moments. Collective."""
    if group.handle is None:
        return merge(own_BG3[None])
    parts = own_BG3.new_empty((group.size, *own_BG3.shape))
    with group.waiting():
        dist.all_gather(list(parts), own_BG3.contiguous(), group=group.handle)
    group.meter.sent += own_BG3.numel() * own_BG3.element_size() * (group.size - 1)
    group.meter.messages += 1
    return merge(parts)
