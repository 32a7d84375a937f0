"""Videos out, with PyAV and Pillow: a file, or a folder of pictures, that appears whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from PIL import ExifTags, Image

from ..job.errors import JobRefused
from ..job.job import Job
from ..pool.movie import CODECS, REFUSALS, Movie, as_bytes, writing
from ..pool.whole import rehearsal, whole

SLOWEST = 0.01  # frames a second of a file: below about 0.001 FFmpeg takes 24 instead, without a word
MAX_WEBP = 2**31 - 1  # milliseconds


def check_output(path: Path, *, height: int = 2, width: int = 2, fps: float = 8.0, frames: int = 1) -> None:
    """Raise JobRefused if a video can't be written there: an .mp4, .webm or .webp file, or (no suffix) a folder of PNG.

    One black frame is written, beside the path, as the video will be: the name, the folder, the codec, the size and the rate
    are all tried. Nothing of it stays.
    """
    _check_kind(path, height=height, width=width, fps=fps, frames=frames)
    with rehearsal(path) as part:
        try:
            _write(torch.zeros(1, height, width, 3), part, fps)
        except REFUSALS as error:
            said = f"{width}x{height} at {fps:g} frames a second" if path.suffix else "a folder of PNG"
            raise JobRefused(f"output {path} can't be written as {said} ({error}): use another name, kind or size") from None


def _check_kind(path: Path, *, height: int, width: int, fps: float, frames: int) -> None:
    """Raise JobRefused if a kind of file can't hold such a video, or if the name is of another kind."""
    kind = path.suffix.lower()
    if kind in CODECS and (height % 2 or width % 2):
        raise JobRefused(f"output {path}: {path.suffix} wants an even height and width, got {width}x{height}: use .webp")
    if kind not in (*CODECS, ".webp", ""):
        raise JobRefused(f"output {path}: wanted .mp4, .webm, .webp, or a folder name without a suffix, got {path.suffix}")
    if kind and fps < SLOWEST:
        raise JobRefused(
            f"output {path}: {path.suffix} wants at least {SLOWEST} frames a second, got {fps:g}: use a folder of PNG"
        )
    if kind == ".webp" and frames * _milliseconds(fps) > MAX_WEBP:
        raise JobRefused(f"output {path}: a .webp lasts at most {MAX_WEBP // 86_400_000} days: use .mp4")
    if kind == "" and os.path.exists(path) and not os.path.isdir(path):  # Path's own raise for a name that is too long
        raise JobRefused(f"output {path} is a file: give the name of a folder, or of an .mp4, .webm or .webp file")
    if kind and os.path.isdir(path):
        raise JobRefused(f"output {path} is a folder: give the name of a file in it")


@contextmanager
def streaming(path: Path, job: Job) -> Iterator[Movie | None]:
    """Give what a job's frames go into as they come, as `pool.movie.writing` does; None for a kind of file that wants all at once."""
    size = {"frames": job.frames, "height": job.height, "width": job.width}
    with writing(path, **size, fps=job.fps) if path.suffix.lower() in CODECS else nullcontext() as movie:
        yield movie


def write(frames_THWC: torch.Tensor, path: Path, fps: float) -> None:
    """Write float frames in [0, 1] to a file or, without a suffix, to a folder of numbered PNG files.

    `check_output` tells before whether it can be. Raises JobRefused for a wrong kind, and one of REFUSALS if the disk fails.
    """
    count, height, width = frames_THWC.shape[:3]
    _check_kind(path, height=height, width=width, fps=fps, frames=count)
    with whole(path) as part:
        _write(frames_THWC, part, fps)


def _write(frames_THWC: torch.Tensor, path: Path, fps: float) -> None:
    kind = path.suffix.lower()
    if kind == "":
        path.mkdir()
        for number, frame in enumerate(frames_THWC):
            Image.fromarray(as_bytes(frame)).save(path / f"{number:06d}.png")
    elif kind == ".webp":
        _write_webp(frames_THWC, path, milliseconds=_milliseconds(fps))
    else:
        count, height, width = frames_THWC.shape[:3]
        with writing(path, frames=count, height=height, width=width, fps=fps) as movie:
            for number, frame in enumerate(frames_THWC):
                movie.write(number, frame)


def _write_webp(frames_THWC: torch.Tensor, path: Path, *, milliseconds: int) -> None:
    """Write an animated .webp. Its encoder makes one frame of neighbours that are alike: a note says how many they were."""
    note = Image.Exif()
    note[ExifTags.Base.ImageDescription] = f"{len(frames_THWC)} frames of {milliseconds} ms"
    first, *rest = (Image.fromarray(as_bytes(frame)) for frame in frames_THWC)
    first.save(path, save_all=True, append_images=rest, duration=milliseconds, loop=0, quality=90, exif=note)


def _milliseconds(fps: float) -> int:
    return max(1, round(1000 / fps))
