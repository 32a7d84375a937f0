"""How much of a Wan transformer's exchanges hides behind its compute? `python -m benchmarks.wan_hiding`

A net of middling size on two ranks, with guidance (two branches that take turns) and without (one, which hides its own). Three ways,
turn by turn: the whole video; the same calls with messages that bring nothing and wait for nobody (`limit`: all that is computed,
projections of what comes included); and each rank's half as a video of its own (`apart`), as benchmarks/efficiency.py measures.
Between ranks that share cores a copy is compute: a rank's CPU seconds, of all its threads, say how much of what is missing that is.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from diffusers import WanTransformer3DModel

from benchmarks import two_ranks
from benchmarks.claims import Claim, ratio, report
from benchmarks.wan_changes import changes, one_text
from parallel.comm.group import Group
from parallel.layers.patch import patched
from parallel.layers.travel import Travel
from parallel.layers.turns import InOrder, Turns
from parallel.layers.view import View
from parallel.maths.scope import Span
from parallel.models.wan import NoRotation

REPEATS, BLOCKS = 5, 6
SIDE = 16  # tokens of a latent, either way
SPAN = Span(24, 4, 4)
HEADS, HEAD, FEED_FORWARD, CHANNELS, TEXT, TOKENS = 6, 64, 1536, 16, 64, 32
TRAVELS: tuple[Travel, ...] = ("hidden_states", "keys_values")


def net(blocks: int) -> WanTransformer3DModel:
    """Return a net of seeded random weights, to be evaluated only."""
    torch.manual_seed(0)
    made = WanTransformer3DModel(
        num_attention_heads=HEADS, attention_head_dim=HEAD, ffn_dim=FEED_FORWARD, num_layers=blocks, text_dim=TEXT, freq_dim=32
    )
    made.rope = NoRotation()
    return made.eval().requires_grad_(False)


class Way:
    """One way to run a rank's half of the latents: so many calls, in turns if there are two."""

    def __init__(
        self, made: WanTransformer3DModel, group: Group, span: Span, *, side: int, branches: int, travel: Travel, all_ranks: Any
    ):
        self.made, self.view, self.side = made, View(group, span), side
        self.view.call.turns = Turns(group.device) if branches > 1 else InOrder()
        self.branches = branches
        self.heard = {number: one_text(len(self.view.clip)) for number in range(branches)}
        self.all_ranks = all_ranks
        self.changes = changes(made, self.view, self.heard, size=(side, side), travel=travel)
        self.seconds: list[float] = []
        self.cpu: list[float] = []
        self.waited: list[float] = []

    def step(self) -> None:
        """Make a step's calls, when all ranks are ready, and note its time and this process's CPU time."""
        frames = len(self.view.clip)
        works: list[Callable[[], Any]] = [partial(self._call, frames) for _ in range(self.branches)]
        meter = self.view.group.meter
        with patched(self.changes):
            dist.barrier(self.all_ranks)
            began, cpu, waited = time.perf_counter(), time.process_time(), meter.waited
            self.view.call.turns.run(works)
            self.seconds.append(time.perf_counter() - began)
            self.cpu.append(time.process_time() - cpu)
            self.waited.append(meter.waited - waited)

    def _call(self, frames: int) -> torch.Tensor:
        with torch.inference_mode():  # each thread has its own
            video = torch.zeros(1, CHANNELS, frames, 2 * self.side, 2 * self.side)
            return self.made(video, torch.tensor([500.0]), torch.zeros(1, TOKENS, TEXT), return_dict=False)[0]


def measure(group: Group, repeats: int, blocks: int, side: int) -> dict[str, dict[str, list[float]]]:
    """Return of each way this rank's seconds, its CPU seconds and those that it waited, step by step."""
    made = net(blocks)
    silent = Group(group.rank, group.size, group.device)  # has room for what would come, and sends nothing
    alone = Group(0, 1, group.device)
    ways: dict[str, Way] = {}
    for branches in (1, 2):
        ways[f"apart, {branches}"] = Way(
            made, alone, Span(12, 4, 4), side=side, branches=branches, travel="hidden_states", all_ranks=group.handle
        )
        for travel in TRAVELS:
            kind: dict[str, Any] = {"side": side, "branches": branches, "travel": travel, "all_ranks": group.handle}
            ways[f"limit, {travel}, {branches}"] = Way(made, silent, SPAN, **kind)
            ways[f"whole, {travel}, {branches}"] = Way(made, group, SPAN, **kind)
    for _ in range(repeats + 1):
        for way in ways.values():
            way.step()
    return {name: {"seconds": way.seconds[1:], "cpu": way.cpu[1:], "waited": way.waited[1:]} for name, way in ways.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    asked = parser.parse_args()
    began = time.perf_counter()
    ranks = two_ranks.run(measure, asked.repeats, asked.blocks, SIDE)
    slower = {way: [max(pair) for pair in zip(*(rank[way]["seconds"] for rank in ranks))] for way in ranks[0]}
    cpu = {way: [sum(pair) for pair in zip(*(rank[way]["cpu"] for rank in ranks))] for way in ranks[0]}
    waited = {way: [sum(pair) for pair in zip(*(rank[way]["waited"] for rank in ranks))] for way in ranks[0]}
    claims, rows = [], {}
    for branches, cfg, target in ((2, "cfg 5", ">= 0.95"), (1, "cfg 1", ">= 0.93")):
        for travel in TRAVELS:
            limit, whole = f"limit, {travel}, {branches}", f"whole, {travel}, {branches}"
            rows[f"{cfg}, {travel}"] = {
                "of the limit": ratio(slower[limit], slower[whole]),
                "of clips apart": ratio(slower[f"apart, {branches}"], slower[whole]),
                "CPU of the limit's": ratio(cpu[whole], cpu[limit]),
                "waited, share of a step": ratio(waited[whole], [2 * each for each in slower[whole]]),
                "seconds a step": sorted(slower[whole])[len(slower[whole]) // 2],
            }
        best = max((rows[f"{cfg}, {travel}"]["of the limit"], travel) for travel in TRAVELS)[1]
        row = rows[f"{cfg}, {best}"]
        claims.append(Claim(f"Wan, hiding at {cfg}", row["of the limit"], target, {"what travels": best, **row}))
    for name, row in rows.items():
        print(name, {key: round(value, 3) for key, value in row.items()}, flush=True)
    report("wan_hiding", claims, began, command=" ".join(["python -m benchmarks.wan_hiding", *sys.argv[1:]]), rows=rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
