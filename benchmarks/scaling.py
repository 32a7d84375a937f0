"""Rank counts that this machine does not have: `python -m benchmarks.scaling`

Measures this machine's constants (seconds a frame and a call from two lengths on one rank; the loopback's latency and bandwidth
from two message sizes), predicts UNet calls of other lengths at the same sizes on 1 and 2 ranks, and compares them with real ones. Then
lets the same model say what VideoCrafter2 takes on 1 to 512 GPUs.
"""

import time
from typing import Any

import torch
import torch.distributed as dist

from benchmarks import cost_model, standard, two_ranks
from benchmarks.claims import Claim, report
from parallel import traffic
from parallel.comm.group import Group
from parallel.folder import UNetShape
from parallel.layers.attention import Biases
from parallel.layers.patch import patched
from parallel.layers.view import View
from parallel.maths.scope import Span
from parallel.models import unet3d

SIZES = (16, 32)  # pixels on a side of the latents
KNOWN = (16, 40)  # clips that the constants come from
CHECKED = (24, 32)  # clips that the model predicts
SMALL, BIG = 1 << 10, 1 << 20  # numbers in a message
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
LENGTHS = (2_300, 10_000, 100_000)
TEMPORAL_SHARE = 0.4  # of a call on the standard bench: benchmarks/efficiency.py measures it


def seconds_of(unet: torch.nn.Module, view: View, latent: int, repeats: int = 3) -> float:
    """Return the best time of a UNet call: what the machine can do, and not what disturbed it."""
    video, text = standard.call(view.span.frames, latent)
    own = video[:, :, view.clip.start : view.clip.stop]
    changes, best = unet3d.frame_changes(unet, view, Biases(view)), float("inf")
    with torch.inference_mode(), patched(changes):
        for _ in range(repeats):
            dist.barrier()
            began = time.perf_counter()
            unet(own, 500, encoder_hidden_states=text)
            best = min(best, time.perf_counter() - began)
    return best


def message_seconds(group: Group, numbers: int) -> float:
    """Return the best time of an exchange of so many numbers with one other rank."""
    box, sizes, best = torch.zeros(numbers), [0] * group.size, float("inf")
    sizes[1 - group.rank] = numbers
    for _ in range(20):
        dist.barrier()
        began = time.perf_counter()
        dist.all_to_all_single(torch.empty(numbers), box, sizes, sizes)
        best = min(best, time.perf_counter() - began)
    return best


def measure(group: Group) -> dict[str, Any]:
    """Return this machine's constants and the times that the model is to predict, both ranks at work in each."""
    unet, near, far = standard.unet(), standard.LOCAL, standard.GLOBAL
    alone = Group(0, 1, group.device)
    seconds_of(unet, View(alone, Span(16, near, far)), 16)  # not counted: the first call of all
    small, big = (message_seconds(group, numbers) for numbers in (SMALL, BIG))
    known = {size: [seconds_of(unet, View(alone, Span(clip, near, far)), size) for clip in KNOWN] for size in SIZES}
    checked = {}
    for size in SIZES:
        for clip in CHECKED:
            checked[f"1 {clip} {size}"] = seconds_of(unet, View(alone, Span(clip, near, far)), size)
            checked[f"2 {2 * clip} {size}"] = seconds_of(unet, View(group, Span(2 * clip, near, far)), size)
    return {"small": small, "big": big, "known": known, "checked": checked}


def predict(measured: dict[str, Any], ranks: int, frames: int, size: int) -> float:
    """Return the model's seconds of a call on the standard bench."""
    bandwidth = 4 * (BIG - SMALL) / (measured["big"] - measured["small"])
    link = cost_model.Link("loopback", measured["small"], bandwidth)
    few, many = measured["known"][size]
    each = (many - few) / (KNOWN[1] - KNOWN[0])
    machine = cost_model.Machine(each, TEMPORAL_SHARE, link, few - each * KNOWN[0])
    config = standard.STANDARD
    shape = UNetShape(**{name: config[name] for name in UNetShape.model_fields})
    layers, span = traffic.frame_layers(shape, size, size), Span(frames, standard.LOCAL, standard.GLOBAL)
    sent = max(traffic.sent_bytes(layers, span, ranks, item=4, branches=2))
    return cost_model.call_seconds(machine, span, ranks, sent, len(layers))


def main() -> int:
    began = time.perf_counter()
    ranks = two_ranks.run(measure)
    slower = {name: max(rank["checked"][name] for rank in ranks) for name in ranks[0]["checked"]}
    rows = []
    for name, seconds in slower.items():
        world, frames, size = map(int, name.split())
        said = predict(ranks[0], world, frames, size)
        rows.append({"ranks": world, "frames": frames, "latent": size, "measured": seconds, "predicted": said})
        print(f"{world} ranks, {frames} frames, {size}x{size}: {seconds:.3f} s, the model says {said:.3f} s", flush=True)
    worst = max(abs(row["predicted"] / row["measured"] - 1) for row in rows)
    machines = {link.name: cost_model.paper_gpu(link) for link in cost_model.LINKS}
    steps = {
        name: {frames: {r: cost_model.crafter_seconds(machine, frames, r) for r in RANKS} for frames in LENGTHS}
        for name, machine in machines.items()
    }
    paper = {"frames": cost_model.PAPER_FRAMES, "ranks": 8, "seconds a step": cost_model.PAPER_SECONDS / cost_model.PAPER_STEPS}
    details = {"TFLOP/s of the paper's GPU": cost_model.achieved_tflops(next(iter(machines.values())))}
    claim = Claim("cost model", worst, "<= 0.15", details)
    report("scaling", [claim], began, rows=rows, steps=steps, paper=paper)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
