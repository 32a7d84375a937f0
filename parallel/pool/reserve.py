"""What a job needs in shared memory, reserved before any rank works: its latents and frames, its init, its snapshot."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from ..families.folder import ModelFolder
from ..job.job import Job
from ..wire.blocks import Block, check_room
from ..wire.messages import Work
from ..wire.snapshot import Snapshot, shapes


@dataclass(frozen=True)
class Reserved:
    """The blocks of a job, the work that names them, and its snapshot."""

    latents: Block
    frames: Block | None
    kept: Snapshot
    work: Work


@contextmanager
def reserve(
    job: Job, model: ModelFolder, shape_CTHW: tuple[int, ...], init: torch.Tensor | None, *, init_is_latents: bool
) -> Iterator[Reserved]:
    """Lend a job its blocks; their tensors outlive the `with`. Raises JobRefused if there is no room for them."""
    planes_shape, marks_shape = shapes(shape_CTHW, model.history(job.scheduler))
    frames_shape = (job.frames, job.height, job.width, 3)
    check_room([shape_CTHW, planes_shape, *([frames_shape] if job.decode else []), *([] if init is None else [init.shape])])
    with ExitStack() as stack:
        latents, planes = (stack.enter_context(Block(shape, "float32")) for shape in (shape_CTHW, planes_shape))
        marks = stack.enter_context(Block(marks_shape, "int64"))
        frames = stack.enter_context(Block(frames_shape, "float32")) if job.decode else None
        lent = None if init is None else stack.enter_context(_lend(init))
        work = Work(
            number=0,
            job=job,
            latents=latents.handle,
            frames=frames.handle if frames else None,
            init=lent.handle if lent else None,
            init_is_latents=init_is_latents,
            planes=planes.handle,
            marks=marks.handle,
        )
        yield Reserved(latents, frames, Snapshot(planes.tensor, marks.tensor), work)


def _lend(init: torch.Tensor) -> Block:
    """Copy an init into a block that the ranks can read."""
    block = Block(tuple(init.shape), "uint8" if init.dtype == torch.uint8 else "float32")
    block.tensor.copy_(init)
    return block
