"""Coherence is free: the dual-scope model against independent clips. `python -m benchmarks.one_rank`

On one rank of one thread: a UNet call of the patched model on the whole video, against calls of diffusers' stock model on
16-frame clips of the same frames, which know nothing of each other.
"""

import statistics
import time

import torch

from benchmarks import standard
from benchmarks.claims import Claim, ratio, report, take_turns
from parallel.comm.group import Group
from parallel.layers.attention import Biases
from parallel.layers.patch import patched
from parallel.layers.view import View
from parallel.maths.scope import Span
from parallel.models import unet3d

CLIP = 16
REPEATS = 5


def main() -> int:
    began = time.perf_counter()
    torch.set_num_threads(1)
    unet = standard.unet()
    video, text = standard.call(standard.FRAMES)
    view = View(Group(0, 1, video.device), Span(standard.FRAMES, standard.LOCAL, standard.GLOBAL))
    changes = unet3d.frame_changes(unet, view, Biases(view))

    @torch.inference_mode()
    def ours() -> None:
        with patched(changes):
            unet(video, 500, encoder_hidden_states=text)

    @torch.inference_mode()
    def clips() -> None:
        for clip in video.split(CLIP, dim=2):
            unet(clip, 500, encoder_hidden_states=text)

    seconds = take_turns(REPEATS, ours=ours, clips=clips)
    details = {f"seconds a call of {standard.FRAMES} frames, {way}": statistics.median(s) for way, s in seconds.items()}
    claim = Claim("coherence is free", ratio(seconds["ours"], seconds["clips"]), "<= 1.05", details)
    report("one_rank", [claim], began, seconds=seconds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
