"""Where the parts of a loaded model are: on this rank's device or, while a phase does not use them, in host memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..job.job import Offload
from ..models.model import Model
from ..models.table import load

__all__ = ["Model", "load", "resident", "settle"]


def settle(model: Model, device: torch.device, offload: Offload) -> None:
    """Put a model where it waits for its phases: all of it on the device or, with `parts`, in host memory."""
    for part in filter(None, (*model.nets, model.vae, model.text_encoder)):
        part.to("cpu" if offload == "parts" else device)


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
