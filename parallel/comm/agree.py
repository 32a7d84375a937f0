"""Agree between steps: what one rank has to say, all do; all have exchanged equally often; all reckon with the slowest."""

import torch
import torch.distributed as dist

from ..job.errors import OutOfStep
from .group import Group


def agree(*flags: bool, group: Group, at: str) -> tuple[bool, ...]:
    """Return on every rank, flag by flag, whether any rank's is set: a rank never decides alone, or others would wait for it.

    Collective, and the number waits for the device; a step's latents, which are copied to the host, have waited before.
    `at` says where the ranks are, such as "at step 7 of 30". Raises PeerLost if a rank is gone, and OutOfStep, on all ranks,
    if they have not made the same number of exchanges by then.
    """
    if group.handle is None:
        return flags
    made = group.meter.messages
    words = torch.tensor([made, -made, *flags], dtype=torch.int64, device=group.device)
    with group.waiting():
        dist.all_reduce(words, op=dist.ReduceOp.MAX, group=group.handle)
        most, least, *agreed = words.tolist()
    if most != -least:
        raise OutOfStep(f"the ranks made {-least} to {most} exchanges, and not the same number each, {at}")
    return tuple(map(bool, agreed))


def least(*numbers: float, group: Group) -> tuple[float, ...]:
    """Return on every rank, number by number, the least that any rank has. Collective; raises PeerLost if a rank is gone."""
    if group.handle is None:
        return numbers
    agreed = torch.tensor(numbers, dtype=torch.float32, device=group.device)
    with group.waiting():
        dist.all_reduce(agreed, op=dist.ReduceOp.MIN, group=group.handle)
        return tuple(agreed.tolist())
