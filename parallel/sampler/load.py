"""Where the parts of a loaded model are: on this rank's device or, while a phase does not use them, in host memory."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch

from ..job.job import Job, Offload
from ..layers.offload import block_by_block, borrowed, tensors_of
from ..models.model import Model
from ..models.table import load
from ..plan import fitting_offload
from .fit import free_bytes

__all__ = ["Model", "choose_offload", "load", "resident", "settle"]


def choose_offload(model: Model, job: Job, clip: range, device: torch.device) -> Offload:
    """Return what a rank offloads: as the job says or, of `auto`, as little as fits its clip into what is free; nothing on a CPU.

    It does not change the video, and ranks may choose differently.
    """
    if job.offload != "auto":
        return job.offload
    free = free_bytes(device)
    if free is None:
        return "none"
    held = sum(tensor.nbytes for part in parts_of(model) for tensor in tensors_of(part) if tensor.device == device)
    return fitting_offload(model.folder, job, clip, free + held)


def parts_of(model: Model) -> list[torch.nn.Module]:
    """Return the parts of a model that this rank has."""
    return list(filter(None, (*model.nets, model.vae, model.text_encoder, model.image_encoder)))


def settle(
    model: Model, device: torch.device, offload: Offload, *, at_work: Iterable[torch.nn.Module | None] | None = None
) -> None:
    """Put a model where it waits for its phases: on the device or, if anything is offloaded, in host memory.

    Only the parts that a job sets to work come to the device; None: all do.
    """
    every = parts_of(model)
    if offload != "none":
        for part in every:
            part.to("cpu")
    else:
        for part in filter(None, every if at_work is None else at_work):
            part.to(device)


def resident(
    part: torch.nn.Module | None, *, model: Model, device: torch.device, offload: Offload
) -> AbstractContextManager[None]:
    """Have a part of a settled model on the device inside the block; None is a part that another rank has.

    With `blocks` those of a net come one ahead of their turn.
    """
    if part is None or offload == "none":
        return nullcontext()
    if offload == "blocks" and any(part is net for net in model.nets):
        return block_by_block(part, model.blocks(part), device)
    return borrowed(tensors_of(part), device)
