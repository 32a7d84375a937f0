"""How near are two ranks to the limit? `python -m benchmarks.efficiency`

The limit is two ranks that each sample their half of the frames as a video of its own at the same moment: the same layers, no
communication. Against it, the whole video: exact, and with stale context. Each as the sampler runs it: guidance's branches in one
call on a rank by itself, in turns where frames travel. A way's time is that of its slower rank.
"""

import statistics
import threading
import time
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from diffusers import UNet3DConditionModel
from torch import nn

from benchmarks import standard, two_ranks
from benchmarks.claims import Claim, ratio, report
from parallel.comm.group import Group
from parallel.job.job import Tuning
from parallel.layers.attention import Biases, FrameTransformer
from parallel.layers.conv import FrameConvs
from parallel.layers.frames import OverFrames
from parallel.layers.patch import patched
from parallel.layers.stale import mode
from parallel.layers.turns import Turns
from parallel.layers.view import View
from parallel.maths.scope import Span
from parallel.models import unet3d

REPEATS = 16  # two rounds of stale context
STALE_FOR = Tuning().stale_for
PARTS = {"spatial layers": OverFrames, "temporal convolutions": FrameConvs, "temporal attention": FrameTransformer}


class Way:
    """One way to run a rank's half of the frames."""

    def __init__(self, unet: UNet3DConditionModel, group: Group, span: Span, *, stale: bool = False):
        self.unet, self.view = unet, View(group, span)
        self.changes = unet3d.frame_changes(unet, self.view, Biases(self.view))
        if group.size > 1:
            self.view.call.turns = Turns(group.device)
        self.stale = stale
        self.seconds: list[float] = []
        self.profile = dict.fromkeys([*PARTS, "waiting for others"], 0.0)

    def call(self) -> None:
        """Make one UNet call, when all ranks are ready, and note its time. The first is exact, and not counted."""
        call, number = self.view.call, len(self.seconds)
        call.mode = mode(number, list(range(0, number + 1, STALE_FOR)) if self.stale else [])
        video, text = standard.call(standard.FRAMES)
        own = video[:, :, self.view.clip.start : self.view.clip.stop]
        branches = [slice(branch, branch + 1) for branch in range(len(own))] if isinstance(call.turns, Turns) else [slice(None)]
        works = [partial(self._call_unet, own[branch], text[branch]) for branch in branches]
        meter = self.view.group.meter
        with torch.inference_mode(), patched(self.changes):
            hooks = [handle for module in self.unet.modules() for handle in self._watch(module)]
            dist.barrier()
            began, waited = time.perf_counter(), meter.waited
            call.turns.run(works)
            self.seconds.append(time.perf_counter() - began)
            self.profile["waiting for others"] += meter.waited - waited
            if not number:
                self.profile = dict.fromkeys(self.profile, 0.0)
            for hook in hooks:
                hook.remove()

    def _call_unet(self, video: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():  # each thread has its own
            return self.unet(video, 500, encoder_hidden_states=text).sample

    def _watch(self, module: nn.Module) -> list:
        kinds = [name for name, kind in PARTS.items() if isinstance(module, kind)]
        if not kinds:
            return []
        begun: dict[int, float] = {}  # by branch; a thread's own time, since another works while it waits

        def begin(*_: Any) -> None:
            begun[threading.get_ident()] = time.thread_time()

        def end(*_: Any) -> None:
            self.profile[kinds[0]] += time.thread_time() - begun[threading.get_ident()]

        return [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]


def measure(group: Group, repeats: int) -> dict[str, Any]:
    """Return this rank's seconds of each way, in turns, and what a call of the whole video is spent on."""
    unet = standard.unet()
    near, far = standard.LOCAL, standard.GLOBAL
    alone = Group(0, 1, group.device)
    ways = {
        "limit": Way(unet, alone, Span(standard.FRAMES // group.size, near, far)),
        "exact": Way(unet, group, Span(standard.FRAMES, near, far)),
        "stale": Way(unet, group, Span(standard.FRAMES, near, far), stale=True),
    }
    for _ in range(repeats + 1):
        for way in ways.values():
            way.call()
    for way in ways.values():
        way.view.call.kept.drain()
    return {
        "seconds": {name: way.seconds[1:] for name, way in ways.items()},
        "profile": {name: {part: spent / repeats for part, spent in way.profile.items()} for name, way in ways.items()},
    }


def main() -> int:
    began = time.perf_counter()
    ranks = two_ranks.run(measure, REPEATS)
    slower = {way: [max(pair) for pair in zip(*(rank["seconds"][way] for rank in ranks))] for way in ranks[0]["seconds"]}
    medians = {way: sorted(times)[len(times) // 2] for way, times in slower.items()}
    exact = ratio(slower["limit"], slower["exact"])
    # Some steps send and some do not, so that all count, each against the limit beside it.
    stale = 1 / statistics.mean(over / under for over, under in zip(slower["stale"], slower["limit"]))
    claims = [
        Claim("parallel efficiency", exact, ">= 0.95", {f"seconds a call, {way}": value for way, value in medians.items()}),
        Claim("parallel efficiency, stale context", stale, ">= 0.99"),
    ]
    report("efficiency", claims, began, profile=ranks[0]["profile"]["exact"], profiles=ranks[0]["profile"], seconds=slower)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
