"""Frames that are given: `--image FILE@FRAME` and, for a run of frames, `--video FILE@FRAME`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..job.errors import JobRefused
from ..job.job import Job, Keyframe, checked
from ..job.moment import MOMENT, first_frame
from . import inits

FORM = re.compile(rf"(?P<file>.+)@(?P<when>{MOMENT})(:(?P<strength>\d{{1,3}}(\.\d{{1,9}})?))?")


@dataclass(frozen=True)
class Wish:
    """A file, where in the video it stands (`last`: it ends there), and for what share of the schedule it holds."""

    option: str
    file: Path
    when: str = "0"
    strength: float = 1.0

    @property
    def is_run(self) -> bool:
        """Whether all of its frames are given, and not the first alone."""
        return self.option == "video"

    def first_frame(self, count: int, job: Job) -> int:
        """Return the frame of the video at which so many pictures begin."""
        return first_frame(self.when, count, frames=job.frames, fps=job.fps)


def parse(option: str, text: str) -> Wish:
    """Read `FILE`, `FILE@FRAME`, `FILE@SECONDSs` or `FILE@last`, the last three also with `:STRENGTH`."""
    found = FORM.fullmatch(text)
    if found is None:
        return Wish(option, Path(text))
    return Wish(option, Path(found["file"]), found["when"], float(found["strength"] or 1))


def read(
    wishes: list[Wish], job: Job, *, fit: inits.Fit, notify: Callable[[str], None]
) -> tuple[tuple[Keyframe, ...], torch.Tensor | None]:
    """Return keyframes by their frame, and the pixels of all, uint8 (pictures, H, W, 3), None of none; raise JobRefused.

    `job` says the video's size and length; a run of frames is given out as it came.
    """
    read_ones = [_read_one(wish, job, fit, notify) for wish in wishes]
    in_order = sorted(read_ones, key=lambda each: each[0].frame)
    pixels = torch.cat([pictures for _, pictures in in_order]) if in_order else None
    return tuple(keyframe for keyframe, _ in in_order), pixels


def _read_one(wish: Wish, job: Job, fit: inits.Fit, notify: Callable[[str], None]) -> tuple[Keyframe, torch.Tensor]:
    begin = wish.first_frame(1, job)
    if begin >= job.frames:
        raise JobRefused(
            f"{wish.option} {wish.file}: frame {begin} is past the end of a video of {job.frames} frames: use frames 0 to {job.frames - 1}"
        )
    room = job.frames - (0 if wish.when == "last" else begin)
    most = room if wish.is_run else 1
    pictures = inits.read(wish.file, most=most, height=job.height, width=job.width, fit=fit, notify=notify, what=wish.option)
    count = len(pictures)
    frame = wish.first_frame(count, job)
    return checked(Keyframe, frame=frame, count=count, strength=wish.strength, keep=wish.is_run), pictures
