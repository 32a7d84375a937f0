"""A snapshot on disk, for a run that goes on after the whole machine went down: safetensors, with the job in its header."""

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..families import folder
from ..families.safety import MAX_OWN_HEADER, claimed_header
from ..families.table import ModelFolder
from ..job.errors import JobRefused
from ..job.job import Job
from ..wire.snapshot import Snapshot
from .init import check_embeddings, check_picture_tokens
from .whole import whole

log = logging.getLogger(__name__)
FORMAT = "video-infinity snapshot 1"
OPTIONAL = ("keyframes", "embeddings", "picture_tokens")  # tensors, under the names that `Stored` has for them


@dataclass(frozen=True)
class Stored:
    """A job, how many of its steps are done, and what is known by then: (S, C, T, h, w) float32.

    `keyframes` are the pictures of the job's, (pictures, H, W, 3), `embeddings` those of its texts, (texts, tokens, width), and
    `picture_tokens` those of keyframes, (pictures, tokens, width), if it came with them. `model` is what the job's folder held when a file was loaded.
    """

    job: Job
    step: int
    planes: torch.Tensor
    model: ModelFolder | None = None
    keyframes: torch.Tensor | None = None
    embeddings: torch.Tensor | None = None
    picture_tokens: torch.Tensor | None = None


def save(path: Path, stored: Stored) -> None:
    """Write a snapshot; it takes the place of an older one only when it is whole and on the disk. Raises OSError."""
    said = {"format": FORMAT, "job": stored.job.model_dump_json(), "step": str(stored.step)}
    tensors = {name: getattr(stored, name) for name in ("planes", *OPTIONAL)}
    try:
        with whole(path) as part:
            there = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
            save_file(there, part, metadata=said)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def load(path: Path) -> Stored:
    """Return what a file holds; raise JobRefused if it is not a whole snapshot of a job that can be run."""
    try:
        size = claimed_header(path)
        if size > MAX_OWN_HEADER:
            raise JobRefused(_broken(path, f"its header claims {size} bytes"))
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
            if said.get("format") != FORMAT or not {"planes"} <= set(file.keys()) <= {"planes", *OPTIONAL}:
                raise JobRefused(_broken(path, "it is another kind of file"))
            job, step = Job.model_validate_json(said["job"]), int(said["step"])
            shape, kind = tuple(file.get_slice("planes").get_shape()), file.get_slice("planes").get_dtype()
            model = _check(path, job, step, shape=shape, kind=kind)
            _check_keyframes(path, job, file)
            _check_encoded(path, job, model, file)
            planes = file.get_tensor("planes")
            given = {name: file.get_tensor(name) for name in OPTIONAL if name in file.keys()}  # noqa: SIM118 (no mapping)
    except OSError as error:
        raise JobRefused(f"snapshot {path} can't be read ({error}): give a file that --snapshot wrote") from None
    except (SafetensorError, ValidationError, KeyError, ValueError) as error:
        raise error if isinstance(error, JobRefused) else JobRefused(_broken(path, str(error).splitlines()[0])) from None
    for tensor in (planes, *given.values()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise JobRefused(_broken(path, "it holds numbers that are not finite"))
    return Stored(job, step, planes, model, **given)


def _check_keyframes(path: Path, job: Job, file: safe_open) -> None:
    """Raise JobRefused unless a file holds the pictures of its job's keyframes, and no others, before any is read."""
    wanted = (job.given_frames, job.height, job.width, 3) if job.keyframes else None
    got = None
    if "keyframes" in file.keys():  # noqa: SIM118 (safe_open is no mapping)
        kept = file.get_slice("keyframes")
        got = tuple(kept.get_shape()) if kept.get_dtype() in ("U8", "F32") else kept.get_dtype()
    if got != wanted:
        raise JobRefused(_broken(path, f"wanted keyframes of {wanted}, got {got}"))


def _check_encoded(path: Path, job: Job, model: ModelFolder, file: safe_open) -> None:
    """Raise JobRefused if a file holds embeddings or tokens of pictures that do not fit its job, before any is read."""
    for name, check in (("embeddings", check_embeddings), ("picture_tokens", check_picture_tokens)):
        if name in file.keys():  # noqa: SIM118 (safe_open is no mapping)
            kept = file.get_slice(name)
            if kept.get_dtype() != "F32":
                raise JobRefused(_broken(path, f"wanted {name} of F32, got {kept.get_dtype()}"))
            try:
                check(job, model, torch.zeros(1).expand(kept.get_shape()))  # of that shape, and no memory
            except JobRefused as error:
                raise JobRefused(_broken(path, str(error))) from None


def _check(path: Path, job: Job, step: int, *, shape: tuple[int, ...], kind: str) -> ModelFolder:
    """Return the job's model; raise JobRefused for what does not suit the job, before any of it is read."""
    model = folder.check(job, 1)
    wanted = (1 + model.history(job.scheduler), *model.latents_shape(job))
    if (shape, kind) != (wanted, "F32"):
        raise JobRefused(_broken(path, f"wanted {wanted} of F32, got {shape} of {kind}"))
    if not 1 <= step <= job.num_inference_steps:
        raise JobRefused(_broken(path, f"it is from step {step} of {job.num_inference_steps}"))
    return model


def _broken(path: Path, why: str) -> str:
    return f"snapshot {path} is broken ({why[:200]}): start the video again without --resume"


def _located(job: Job) -> Job:
    """Return a job whose folders are the same ones for who goes on from a snapshot elsewhere."""
    places = {"model": job.model, "parts": job.parts}
    return job.model_copy(update={name: place and os.path.abspath(place) for name, place in places.items()})


class Keeper:
    """Writes a job's snapshot to a file from time to time, while the ranks work on."""

    def __init__(
        self,
        path: Path,
        job: Job,
        seconds: float,
        **given: torch.Tensor | None,
    ):
        """Take, beside the job, what came with it, under the names that `Stored` has for it."""
        self.path, self.job, self.seconds, self.given = path, _located(job), seconds, given
        self.written = 0  # steps
        self.since = time.monotonic()

    def write_if_due(self, snapshot: Snapshot) -> None:
        """Write the file if it is time to. A disk that is full costs the snapshot, never the video."""
        if time.monotonic() - self.since >= self.seconds:
            self.write(snapshot)

    def write(self, snapshot: Snapshot) -> None:
        """Write the last whole step to the file, unless it is there already."""
        if snapshot.whole() > self.written:
            try:
                step, planes = snapshot.copy()
                save(self.path, Stored(self.job, step, planes, None, **self.given))
                self.written = step
            except (OSError, RuntimeError, MemoryError) as error:  # torch's own words for no memory are a RuntimeError
                log.warning("snapshot %s could not be written (%s): the video goes on without it", self.path, error)
        self.since = time.monotonic()

    def discard(self) -> None:
        """Remove the file: the video is finished, and stays so if the file can't be."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("snapshot %s could not be removed (%s): it is of no use any more", self.path, error)
