"""Rank counts that this machine does not have: `python -m benchmarks.scaling`

First the cost model is put to the test here: from two calls on one rank, at a size of latents of their own, and from two message
sizes it predicts calls of other sizes and lengths, on 1 and 2 real ranks. Then it says what a step of VideoCrafter2 at
512x320 takes on 1 to 512 GPUs, link by link, for videos of up to 100,000 frames.
"""

import statistics
import time
from typing import Any

import torch
import torch.distributed as dist

from benchmarks import cost_model, standard, two_ranks
from benchmarks.claims import Claim, report
from parallel.comm.fetch import Routes, fetch
from parallel.comm.group import Group
from parallel.layers.attention import Biases
from parallel.layers.patch import patched
from parallel.layers.view import View
from parallel.maths.scope import Span
from parallel.models import unet3d

KNOWN_LATENT, KNOWN = 24, (16, 40)  # pixels on a side, frames: what the machine's constants come from
CHECKED = ((1, 16, 24), (1, 16, 96), (2, 16, 48), (2, 16, 96), (1, 32, 24), (1, 32, 48), (2, 32, 24), (2, 32, 48), (2, 32, 96))
SMALL, BIG = 1 << 8, 1 << 20  # numbers in a message
ITEM = 4  # bytes of a float32
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
LENGTHS = (cost_model.PAPER_FRAMES, 10_000, 100_000)
Point = tuple[int, int, int]  # ranks, latent, frames


def span_of(frames: int) -> Span:
    """Return the standard bench's scopes in a video of some length."""
    return Span(frames, standard.LOCAL, standard.GLOBAL)


def seconds_of(unet: torch.nn.Module, group: Group, latent: int, frames: int, repeats: int = 3) -> float:
    """Return the best time of a UNet call: what the machine can do, and not what disturbed it."""
    video, text = standard.call(frames, latent)
    view, best = View(group, span_of(frames)), float("inf")
    own = video[:, :, view.clip.start : view.clip.stop]
    with torch.inference_mode(), patched(unet3d.frame_changes(unet, view, Biases(view))):
        for _ in range(repeats):
            dist.barrier()  # both ranks are always at work, as two cores share caches and memory
            began = time.perf_counter()
            unet(own, 500, encoder_hidden_states=text)
            best = min(best, time.perf_counter() - began)
    return best


def message_seconds(group: Group, numbers: int, repeats: int = 60) -> float:
    """Return the median time of one exchange of a frame of so many numbers with the other rank."""
    route = Routes((range(1), range(1, 2)), ((1,), (0,))).of(group.rank, group.device)
    frame, times = torch.zeros(1, numbers), []
    for _ in range(repeats):
        began = time.perf_counter()
        fetch(frame, 0, route, group).wait()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(group: Group) -> dict[str, Any]:
    """Return this machine's seconds of known calls and messages, and of the calls that are to be predicted."""
    unet, alone = standard.unet(), Group(0, 1, group.device)
    seconds_of(unet, alone, 16, 8, 1)  # not counted: the first call of all
    messages = [message_seconds(group, numbers) for numbers in (SMALL, BIG)]
    known = [seconds_of(unet, alone, KNOWN_LATENT, frames) for frames in KNOWN]
    checked = {
        (world, latent, frames): seconds_of(unet, alone if world == 1 else group, latent, frames)
        for world, latent, frames in CHECKED
    }
    return {"messages": messages, "known": known, "checked": checked}


def learn(known: list[float], messages: list[float]) -> tuple[cost_model.Machine, cost_model.Link]:
    """Return this machine and its loopback."""
    unet = cost_model.model("standard", KNOWN_LATENT, KNOWN_LATENT)
    work = [(cost_model.call_flop(unet, span_of(n), 1), cost_model.call_pairs(unet, span_of(n), 1)) for n in KNOWN]
    few, many = ((*done, seconds) for done, seconds in zip(work, known))
    small, big = messages
    return cost_model.fit(few, many), cost_model.Link("loopback", small, ITEM * (BIG - SMALL) / (big - small))


def predict(point: Point, machine: cost_model.Machine, link: cost_model.Link) -> float:
    """Return the model's seconds of a call on the standard bench. On a CPU no branch hides another's messages."""
    world, latent, frames = point
    unet = cost_model.model("standard", latent, latent)
    compute = cost_model.compute_seconds(machine, unet, span_of(frames), world)
    sent = cost_model.sent_bytes(unet, span_of(frames), world, item=ITEM)
    return cost_model.call_seconds(compute, sent, len(unet.layers), link, ranks=world, turns=False)


def crafter() -> cost_model.Model:
    """Return VideoCrafter2's UNet at 512x320."""
    return cost_model.model("video_crafter", *standard.VIDEO_CRAFTER_LATENT)


def draw_up(item: int = 2) -> dict[str, Any]:
    """Return what VideoCrafter2 takes on the paper's GPU, by length and ranks: seconds a step, and GB of the busiest rank.

    By link too: `steps`, where nothing hides behind compute, and `turns`, where branches take turns.
    """
    machine = cost_model.paper_machine()
    unet = crafter()
    compute: dict[int, dict[int, float]] = {frames: {} for frames in LENGTHS}
    sent: dict[int, dict[int, int]] = {frames: {} for frames in LENGTHS}
    for frames in LENGTHS:
        span = Span(frames, *cost_model.PAPER_SCOPE)
        for ranks in RANKS:
            compute[frames][ranks] = cost_model.compute_seconds(machine, unet, span, ranks)
            sent[frames][ranks] = cost_model.sent_bytes(unet, span, ranks, item=item)

    def steps(link: cost_model.Link, frames: int, *, turns: bool) -> dict[int, float]:
        known, messages = zip(RANKS, compute[frames].values(), sent[frames].values()), len(unet.layers)
        return {r: cost_model.call_seconds(busy, goes, messages, link, ranks=r, turns=turns) for r, busy, goes in known}

    return {
        "steps": {link.name: {n: steps(link, n, turns=False) for n in LENGTHS} for link in cost_model.LINKS},
        "turns": {link.name: {n: steps(link, n, turns=True) for n in LENGTHS} for link in cost_model.LINKS},
        "compute": compute,
        "GB sent": {frames: {ranks: goes / 1e9 for ranks, goes in by_ranks.items()} for frames, by_ranks in sent.items()},
    }


def main() -> int:
    began = time.perf_counter()
    ranks = two_ranks.run(measure)
    known, messages = ([max(pair) for pair in zip(*(rank[what] for rank in ranks))] for what in ("known", "messages"))
    machine, link = learn(known, messages)
    rows = []
    for point in CHECKED:
        said, seconds = predict(point, machine, link), max(rank["checked"][point] for rank in ranks)
        row = {**dict(zip(("ranks", "latent", "frames"), point)), "measured": seconds, "predicted": said}
        rows.append(row)
        print(", ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
    worst = max(abs(row["predicted"] / row["measured"] - 1) for row in rows)
    table, at = draw_up(), (cost_model.PAPER_FRAMES, cost_model.PAPER_RANKS)
    paper = {"frames": at[0], "ranks": at[1], "seconds a step": cost_model.PAPER_SECONDS / cost_model.PAPER_STEPS}
    details = {
        "GFLOP/s of a rank here": machine.flops / 1e9,
        "loopback, us a message": link.latency * 1e6,
        "loopback, GB/s": link.bandwidth / 1e9,
        "TFLOP of 24 frames of VideoCrafter2, counted": 24 * crafter().frame_flop / 1e12,
        "TFLOP/s of the paper's GPU": cost_model.paper_machine().flops / 1e12,
        "seconds a step of the paper's longest run": paper["seconds a step"],
        "the same by the model, on PCIe, nothing hidden": table["steps"]["PCIe 4 x16"][at[0]][at[1]],
    }
    report("scaling", [Claim("cost model", worst, "<= 0.15", details)], began, rows=rows, paper=paper, **table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
