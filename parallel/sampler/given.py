"""The pictures that a job's keyframes are: which frame of the video shows which, and which latents those make up."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ..job.job import Job, Keyframe

NOTHING = 0.5  # of what is not given a VAE sees the middle between black and white, as diffusers' pipelines have it


@dataclass(frozen=True)
class Given:
    """Some keyframes of a job, and the pixels of all, (pictures, H, W, 3): uint8 or float from 0 to 1."""

    pixels: torch.Tensor
    rows: dict[int, int]  # frame of the video -> its picture

    def video(self, frames: range) -> torch.Tensor:
        """Return frames of the video, (F, H, W, 3) float32: those that are given, and nothing elsewhere."""
        out = torch.full((len(frames), *self.pixels.shape[1:]), NOTHING)
        for place, frame in enumerate(frames):
            if frame in self.rows:
                out[place] = self.picture(frame)
        return out

    def picture(self, frame: int) -> torch.Tensor:
        """Return the picture of a frame that is given, (H, W, 3) float32 from 0 to 1."""
        pixels = self.pixels[self.rows[frame]]
        return pixels if pixels.is_floating_point() else pixels.float() / 255

    def nearest(self, frame: int, frames: range) -> torch.Tensor:
        """Return the picture of that one of some frames, one of which is given, that is nearest to one."""
        return self.picture(min((each for each in frames if each in self.rows), key=lambda each: (abs(each - frame), each)))


def given(job: Job, pixels: torch.Tensor, keyframes: Iterable[Keyframe]) -> Given:
    """Return some of a job's keyframes, whose pixels lie one after the other in their order."""
    rows: dict[int, int] = {}
    first = 0
    chosen = set(keyframes)
    for keyframe in job.keyframes:
        if keyframe in chosen:
            rows.update({keyframe.frame + number: first + number for number in range(keyframe.count)})
        first += keyframe.count
    return Given(pixels, rows)
