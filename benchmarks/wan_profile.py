"""What a call of Wan is spent on, by part: `python -m benchmarks.wan_profile`

The standard bench: diffusers' stock model on one rank, ours on one rank, and ours on two, each with half the latents, with guidance's
branches in turns. Parts are CPU seconds of the threads that call the net, so that waiting, and what else the machine does, is no part.
"""

import argparse
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import nn

from benchmarks import two_ranks, wan_standard
from benchmarks.claims import report
from benchmarks.wan_hiding import Way
from parallel.comm.group import Group
from parallel.layers.patch import patched

REPEATS, BRANCHES = 3, 2
WHOLE, ATTENTION = "the whole call", "self-attention, all of it"
SHOWN = (
    "self-attention: projections",
    "self-attention: places, gathering, softmax",
    "cross-attention",
    "feed-forward",
    "norms, gates and the rest",
    "waiting for others",
)


class Clock:
    """CPU seconds of modules by part, whichever thread calls them; a part may lie inside another."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def watch(self, module: nn.Module, part: str) -> None:
        """Have a module's calls counted."""
        began: dict[int, float] = {}

        def begin(*_: Any) -> None:
            began[threading.get_ident()] = time.thread_time()

        def end(*_: Any) -> None:
            spent = time.thread_time() - began[threading.get_ident()]
            with self._lock:
                self.seconds[part] = self.seconds.get(part, 0.0) + spent

        module.register_forward_pre_hook(begin)
        module.register_forward_hook(end)

    def parts(self, calls: int) -> dict[str, float]:
        """Return the seconds of a call by what is shown: the whole call, and no waiting."""
        inside = {part: seconds / calls for part, seconds in self.seconds.items()}
        projections, attention = inside[SHOWN[0]], inside[ATTENTION]
        rest = inside[WHOLE] - attention - inside[SHOWN[2]] - inside[SHOWN[3]]
        values = (projections, attention - projections, inside[SHOWN[2]], inside[SHOWN[3]], rest, 0.0)
        return dict(zip(SHOWN, values))


def watched(net: WanTransformer3DModel) -> Clock:
    """Return a clock of a net's parts."""
    clock = Clock()
    clock.watch(net, WHOLE)
    for block in net.blocks:
        attention = block.attn1
        clock.watch(attention, ATTENTION)
        clock.watch(block.attn2, SHOWN[2])
        clock.watch(block.ffn, SHOWN[3])
        for linear in (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0]):
            clock.watch(linear, SHOWN[0])
    return clock


@torch.inference_mode()
def stock(repeats: int, latents: int = wan_standard.LATENTS) -> dict[str, float]:
    """Return what a call of the stock model is spent on."""
    net = wan_standard.net(rope=True)
    clock, called = watched(net), wan_standard.call(latents)
    return _clocked(clock, lambda: net(*called, return_dict=False), repeats)


@torch.inference_mode()
def ours(repeats: int, latents: int = wan_standard.LATENTS) -> dict[str, float]:
    """Return what a call of ours on one rank is spent on."""
    net = wan_standard.net()
    clock, called = watched(net), wan_standard.call(latents)
    with patched(wan_standard.changes(net, wan_standard.alone(latents))):
        return _clocked(clock, lambda: net(*called, return_dict=False), repeats)


def _clocked(clock: Clock, call: Callable[[], Any], repeats: int, calls: int = 1) -> dict[str, float]:
    call()
    clock.seconds.clear()
    for _ in range(repeats):
        call()
    return clock.parts(repeats * calls)


def on_rank(group: Group, repeats: int, latents: int = wan_standard.LATENTS) -> dict[str, float]:
    """Return what a call of ours on this rank's clip is spent on while two branches take turns. Collective."""
    net = wan_standard.net()
    sizes: dict[str, Any] = {"side": wan_standard.SIDE, "branches": BRANCHES, "travel": "hidden_states"}
    way = Way(net, group, wan_standard.span(latents), **sizes, all_ranks=group.handle)
    parts = _clocked(watched(net), way.step, repeats, BRANCHES)
    return {**parts, SHOWN[-1]: sum(way.waited[1:]) / repeats / BRANCHES}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    asked, began = parser.parse_args(), time.perf_counter()
    torch.set_num_threads(1)
    profiles = {
        "stock, one rank": stock(asked.repeats),
        "ours, one rank": ours(asked.repeats),
        "ours, a rank of two": two_ranks.run(on_rank, asked.repeats)[0],
    }
    for way, parts in profiles.items():
        print(way, {part: round(seconds, 3) for part, seconds in parts.items()}, flush=True)
    report("wan_profile", [], began, profiles=profiles, latents=wan_standard.LATENTS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
