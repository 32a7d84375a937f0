"""Where the parts of a loaded model are: on this rank's device or, while a phase does not use them, in host memory."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from ..job.job import Offload
from ..models.model import Model
from ..models.table import load

__all__ = ["Model", "load", "resident", "settle"]


def settle(
    model: Model, device: torch.device, offload: Offload, *, at_work: Iterable[torch.nn.Module | None] | None = None
) -> None:
    """Put a model where it waits for its phases: on the device or, with `parts`, in host memory.

    Only the parts that a job sets to work come to the device; None: all do.
    """
    every = (*model.nets, model.vae, model.text_encoder, model.image_encoder)
    if offload == "parts":
        for part in filter(None, every):
            part.to("cpu")
    else:
        for part in filter(None, every if at_work is None else at_work):
            part.to(device)


@contextmanager
def resident(part: torch.nn.Module | None, device: torch.device, offload: Offload) -> Iterator[None]:
    """Have a part of a settled model on the device inside the block; None is a part that another rank has."""
    if part is None:
        yield
        return
    part.to(device)
    try:
        yield
    finally:
        if offload == "parts":
            part.to("cpu")
