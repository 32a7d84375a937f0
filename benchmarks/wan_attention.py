"""Dual-scope attention against LVSA's public code, on the same keys: `python -m benchmarks.wan_attention --lvsa FOLDER`

FOLDER (or the environment's LVSA_DIR) is a checkout of github.com/JiusiServe/LongVideoSparseAttention, outside this repository. One
self-attention of the standard bench, with its projections, on one thread: LVSA's processor on its path of SDPA and ours, with its anchors
pinned and its widened windows. With `true` places both give the same numbers; `near` ones are what ours does unless told otherwise.
"""

import argparse
import contextlib
import importlib
import io
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import wan_standard
from benchmarks.claims import Claim, ratio, report, take_turns
from harness.live import LiveBytes
from parallel.comm.group import Group
from parallel.layers.dual_scope import DualScopeAttention, Grid, Plans
from parallel.layers.view import View
from parallel.maths import places
from parallel.maths.scope import Span

REPEATS = 9
TARGETS = {"true": "<= 0.8", "near": "<= 0.8"}
SKIPPED = "skipped: say --lvsa FOLDER, or LVSA_DIR, of a checkout of github.com/JiusiServe/LongVideoSparseAttention"
Way = Callable[[], torch.Tensor]


def spacing(latents: int) -> int:
    """Return how far LVSA's anchors are apart, so that there are as many as the bench's global latents."""
    return -(-latents // wan_standard.GLOBAL)


def same_keys(latents: int) -> Span:
    """Return the scopes in which a latent has the keys that LVSA gives it."""
    anchors = tuple(range(0, latents, spacing(latents)))
    return Span(latents, wan_standard.LOCAL, len(anchors), pinned=anchors, full=True)


def imported(folder: Path) -> Any:
    """Return LVSA's module of its processor; raises ImportError if the folder is no checkout of it."""
    if not (folder / "lvsa" / "lvsa_processor.py").is_file():
        raise ImportError(f"{folder} is no checkout of LongVideoSparseAttention: it has no lvsa/lvsa_processor.py")
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("lvsa.lvsa_processor")
    finally:
        sys.path.remove(str(folder))


def lvsa(folder: Path, latents: int, side: int) -> Any:
    """Return LVSA's processor of a video, on one rank and with its anchors where they start."""
    module = imported(folder)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its pattern
        return module.DistributedLVSAProcessor(
            total_num_latent_frames=latents,
            num_patches=side**2,
            window_size=wan_standard.LOCAL,
            n_first_frames=1,
            key_frame_interval=spacing(latents),
            rank=0,
            world=1,
        )


def keys_of(processor: Any) -> list[set[int]]:
    """Return the latents that each latent attends to by LVSA's tables."""
    tokens, anchors = processor.num_patches, set(processor._global_indices)
    windows = processor._metadata.window_ctx
    return [anchors | {start // tokens for start, _ in windows[latent]} for latent in range(len(windows))]


def ours(span: Span, rule: places.Rule, side: int) -> DualScopeAttention:
    """Return our processor of a video on one rank."""
    view = View(Group(0, 1, torch.device("cpu")), span)
    return DualScopeAttention(view, Plans(view, rule), Grid((side, side), wan_standard.HEAD), travel="hidden_states")


def called(attention: nn.Module, processor: Any, x: torch.Tensor, positions: tuple[torch.Tensor, torch.Tensor]) -> Way:
    """Return a call of the attention through a processor."""

    def run() -> torch.Tensor:
        attention.processor = processor
        return attention(x, None, None, positions)

    return run


@torch.inference_mode()
def measure(folder: Path, latents: int, repeats: int, side: int = wan_standard.SIDE) -> dict[str, dict[str, Any]]:
    """Return of each way its seconds, turn by turn, and the most bytes alive besides what goes in; raises if their keys differ."""
    net = wan_standard.net(rope=True)
    video, attention = torch.zeros(1, wan_standard.CHANNELS, latents, 2 * side, 2 * side), net.blocks[0].attn1
    positions = net.rope(video)
    x = torch.randn(1, latents * side**2, wan_standard.HEADS * wan_standard.HEAD, generator=torch.Generator().manual_seed(2))
    span, theirs = same_keys(latents), lvsa(folder, latents, side)
    assert keys_of(theirs) == [set(places.keys(latent, span, "near").frames) for latent in range(latents)]
    processors = {"LVSA": theirs, "true": ours(span, "true", side), "near": ours(span, "near", side)}
    ways = {name: called(attention, processor, x, positions) for name, processor in processors.items()}
    found: dict[str, dict[str, Any]] = {}
    for name, way in ways.items():
        with LiveBytes(known=(x, *positions, *attention.parameters())) as live:
            made = way()
        found[name] = {"peak": live.peak, "made": made}
    assert torch.allclose(found["true"]["made"], found["LVSA"].pop("made"), atol=1e-4)
    for name, seconds in take_turns(repeats, **ways).items():
        found[name]["seconds"] = seconds
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lvsa", type=Path, default=os.environ.get("LVSA_DIR"))
    parser.add_argument("--repeats", type=int, default=REPEATS)
    asked, began = parser.parse_args(), time.perf_counter()
    if asked.lvsa is None:
        print(SKIPPED, flush=True)
        report("wan_attention", [], began, skipped=SKIPPED)
        return 0
    torch.set_num_threads(1)
    found = measure(Path(asked.lvsa), wan_standard.LATENTS, asked.repeats)
    rows = {
        name: {"ms": 1000 * statistics.median(each["seconds"]), "peak MB": each["peak"] / 1e6} for name, each in found.items()
    }
    claims = []
    for rule, target in TARGETS.items():
        times, memory = ratio(found[rule]["seconds"], found["LVSA"]["seconds"]), found[rule]["peak"] / found["LVSA"]["peak"]
        claims.append(Claim(f"Wan attention, {rule} places, time over LVSA's", times, target))
        claims.append(Claim(f"Wan attention, {rule} places, peak memory over LVSA's", memory, target))
    for name, row in rows.items():
        print(name, {key: round(value, 2) for key, value in row.items()}, flush=True)
    report("wan_attention", claims, began, rows=rows, command="python -m benchmarks.wan_attention --lvsa FOLDER")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
