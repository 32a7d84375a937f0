"""Share what one rank has with all: embeddings of prompts, from the rank that has the text encoder."""

import torch
import torch.distributed as dist

from .group import Group


def share(x: torch.Tensor | None, shape: tuple[int, ...], dtype: torch.dtype, *, source: int, group: Group) -> torch.Tensor:
    """Return the `x` of rank `source` on every rank, in its shape and type. Collective. Raises PeerLost if a rank is gone."""
    if group.rank == source:
        assert x is not None and tuple(x.shape) == shape and x.dtype == dtype, "the others made room for another tensor"
    shared = torch.empty(shape, dtype=dtype, device=group.device) if x is None else x.contiguous()
    if group.handle is not None:
        with group.waiting():
            dist.broadcast(shared.view(torch.uint8), source, group=group.handle)  # as bytes: not every backend knows every type
    return shared
