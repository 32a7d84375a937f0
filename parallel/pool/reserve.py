"""What a job needs in shared memory, reserved before any rank works: its latents and frames, what comes with it, its snapshot."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from ..families.table import ModelFolder
from ..job.job import Job
from ..wire.blocks import Block, can_release, check_room
from ..wire.messages import Work
from ..wire.snapshot import Snapshot, shapes


@dataclass(frozen=True)
class Reserved:
    """The blocks of a job, the work that names them, and its snapshot."""

    latents: Block
    frames: Block | None
    snapshot: Snapshot
    work: Work


@contextmanager
def reserve(
    job: Job,
    model: ModelFolder,
    *,
    init: torch.Tensor | None = None,
    init_is_latents: bool = False,
    keyframes: torch.Tensor | None = None,
    embeddings: torch.Tensor | None = None,
    picture_tokens: torch.Tensor | None = None,
    most_held: int | None = None,
    ranks: int = 1,
) -> Iterator[Reserved]:
    """Reserve a job's blocks; their tensors outlive the `with`. Raises JobRefused if there is no room for them.

    With `most_held` the block of frames is emptied as it fills, and so many of them are there at once, of each of the ranks.
    """
    latents_shape, frames_shape = model.latents_shape(job), (job.frames, job.height, job.width, 3)
    planes_shape, marks_shape = shapes(latents_shape, model.history(job.scheduler), job.frames)
    given = (init, keyframes, embeddings, picture_tokens)
    at_once = job.frames if most_held is None or not can_release() else min(job.frames, most_held * ranks)
    check_room(
        [
            latents_shape,
            planes_shape,
            *([(at_once, *frames_shape[1:])] if job.decode else []),
            *(tuple(each.shape) for each in given if each is not None),
        ]
    )
    with ExitStack() as stack:
        latents = stack.enter_context(Block(latents_shape, "float32"))
        planes = stack.enter_context(Block(planes_shape, "float32"))
        marks = stack.enter_context(Block(marks_shape, "int64"))
        frames = stack.enter_context(Block(frames_shape, "float32")) if job.decode else None
        shared = [None if each is None else stack.enter_context(_share(each)).handle for each in given]
        work = Work(
            number=0,
            job=job,
            model=model,
            latents=latents.handle,
            frames=frames.handle if frames else None,
            most_held=most_held,
            init=shared[0],
            init_is_latents=init_is_latents,
            keyframes=shared[1],
            embeddings=shared[2],
            picture_tokens=shared[3],
            planes=planes.handle,
            marks=marks.handle,
        )
        yield Reserved(latents, frames, Snapshot(planes.tensor, marks.tensor), work)


def _share(given: torch.Tensor) -> Block:
    """Copy what comes with a job into a block that the ranks can read."""
    block = Block(tuple(given.shape), "uint8" if given.dtype == torch.uint8 else "float32")
    block.tensor.copy_(given)
    return block
