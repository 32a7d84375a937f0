"""What a run made, written: its frames, its latents and its report, and what is left if one of them can't be."""

import argparse
import errno
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ..families.latent_format import LatentFormat
from ..job.job import Job
from ..pool import Video
from ..pool.whole import whole
from . import latents_file, movies
from .terminal import say


def write_frames(video: Video, output: Path, job: Job) -> None:
    """Write the frames of a video, all at once."""
    assert video.frames is not None, "the job asks for frames, and nobody has taken them"
    movies.write(video.frames, output, job.fps)


def write_all(
    args: argparse.Namespace, job: Job, video: Video, form: LatentFormat, *, write_video: Callable[[], None]
) -> list[str]:
    """Write what a run made, each file whether the others can be or not; return what could not be, why, and what is left."""
    output, began = Path(args.output), time.perf_counter()
    no_latents: list[str] = []
    if args.latents:  # first: they are what took the time
        no_latents = try_to_write(args.latents, lambda: latents_file.save(Path(args.latents), video.latents, form))
    no_video = try_to_write(args.output, write_video)
    failed = [*no_latents, *no_video]
    if args.report:
        report = build_report(video, time.perf_counter() - began)
        failed += try_to_write(args.report, lambda: write_report(Path(args.report), report))
    if not no_video:
        say(f"{job.frames} frames of {job.width}x{job.height} in {output}")
    if no_video or no_latents:
        kept = Path(args.latents) if args.latents and not no_latents else None
        file = args.snapshot or args.resume
        if file is not None and os.path.exists(file):
            return [*failed, f"--resume {file} decodes and writes it again"]
        return [*failed, how_to_decode(kept or rescue_latents(args, video.latents, form))]
    return failed


def try_to_write(file: str, write: Callable[[], None]) -> list[str]:
    """Return [] if a file could be written, else what to say of it."""
    try:
        write()
    except movies.REFUSALS as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        return [f"{file} could not be written ({error}){': make room on its disk' if full else ''}"]
    return []


def keep_latents(args: argparse.Namespace, latents: torch.Tensor, form: LatentFormat) -> str:
    """Write what is done of a video that has no frames, where it was asked for or else where there is room; say where it is."""
    if args.latents and not try_to_write(args.latents, lambda: latents_file.save(Path(args.latents), latents, form)):
        return how_to_decode(Path(args.latents))
    return how_to_decode(rescue_latents(args, latents, form))


def rescue_latents(args: argparse.Namespace, latents: torch.Tensor, form: LatentFormat) -> Path | None:
    """Write latents to a new file, beside the output or among temporary files; return it, or None if there is no room."""
    folders = [Path(args.output).absolute().parent, Path(tempfile.gettempdir())]
    return latents_file.rescue(folders, latents, form)


def how_to_decode(kept: Path | None) -> str:
    """Return how to get a video from the latents that were kept of it."""
    if kept is None:
        return "its latents found no room elsewhere either"
    return f"its latents are in {kept}: with the same model and size, --init {kept} --steps 0 decodes and writes them again"


def write_report(file: Path, report: dict) -> None:
    """Write what a video cost as JSON."""
    with whole(file) as part:
        part.write_text(json.dumps(report, indent=2) + "\n")


def build_report(video: Video, write_seconds: float) -> dict:
    """Return what a video cost: seconds by phase (of the slowest rank), and each rank's communication and peak memory."""
    phases = ("load", "encode", "denoise", "decode")
    slowest = {phase: max(rank.seconds.get(phase, 0.0) for rank in video.ranks) for phase in phases}
    seconds = {"start": video.start_seconds, **slowest, "write": write_seconds}
    return {"seconds": seconds, "restarts": video.restarts, "ranks": [rank.model_dump() for rank in video.ranks]}
