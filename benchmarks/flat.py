"""A frame of a long video costs what one of a short video does: `python -m benchmarks.flat`

Seconds a frame of one UNet call at T = 512 against T = 64, on one rank of one thread. As many frames of each: half of the short
calls come before the long one and half after it, so that what slows the machine slows both.
"""

import time

import torch

from benchmarks import standard
from benchmarks.claims import Claim, report
from parallel.comm.group import Group
from parallel.layers.attention import Biases
from parallel.layers.patch import patched
from parallel.layers.view import View
from parallel.maths.scope import Span
from parallel.models import unet3d

SHORT, LONG = 64, 512


class Video:
    """A patched UNet call of some length."""

    def __init__(self, unet: torch.nn.Module, frames: int):
        self.unet = unet
        self.video, self.text = standard.call(frames)
        view = View(Group(0, 1, self.video.device), Span(frames, standard.LOCAL, standard.GLOBAL))
        self.changes = unet3d.frame_changes(unet, view, Biases(view))

    @torch.inference_mode()
    def call(self) -> None:
        with patched(self.changes):
            self.unet(self.video, 500, encoder_hidden_states=self.text)


def timed(video: Video, calls: int) -> float:
    """Return the seconds of some calls."""
    began = time.perf_counter()
    for _ in range(calls):
        video.call()
    return time.perf_counter() - began


def main() -> int:
    began = time.perf_counter()
    torch.set_num_threads(1)
    unet = standard.unet()
    short, long = Video(unet, SHORT), Video(unet, LONG)

    short.call()  # not counted: the first call of all
    half = LONG // SHORT // 2
    seconds = {"short": timed(short, half), "long": timed(long, 1)}
    seconds["short"] += timed(short, half)
    a_frame = {f"seconds a frame, {way}": total / LONG for way, total in seconds.items()}
    claim = Claim("flat in T", seconds["long"] / seconds["short"], "<= 1.05", a_frame)
    report("flat", [claim], began, seconds=seconds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
