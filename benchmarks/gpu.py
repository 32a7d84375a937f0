"""What a Wan of full size takes on one GPU, with random weights: `make bench-gpu`, or `python -m benchmarks.gpu`.

Attention alone at the sizes of 14B and 1.3B, a call of 1.3B's net, a VAE's decode, and copies to host memory; 832x480 pixels in
bfloat16. It needs torch, diffusers and this repository. The figures lie in bench/gpu.json after every part; a part that breaks
leaves its error there and ends no other. `--toy` runs all of it at toy sizes, on a CPU too.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from einops import rearrange
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.claims import FOLDER
from benchmarks.wan_changes import changes, one_text
from benchmarks.wan_memory import lower
from parallel.comm.group import Group
from parallel.layers.dual_scope import DualScopeAttention, Grid, Plans
from parallel.layers.patch import patched
from parallel.layers.view import View
from parallel.maths import scope
from parallel.maths.scope import Span
from parallel.maths.slices import CPU_BYTES, GPU_BYTES, Slices
from parallel.models import wan_vae
from parallel.models.wan import NoRotation

LOCAL, GLOBAL = 6, 8  # latents, the rule's for models that were trained on 21
TEXT = 512  # tokens


@dataclass(frozen=True)
class Sizes:
    """What is measured: `side` is tokens of a latent, height and width; `clips` are lengths in latents."""

    side: tuple[int, int] = (30, 52)
    head: int = 128
    heads: tuple[tuple[str, int], ...] = (("14B", 40), ("1.3B", 12))
    blocks: int = 30
    clips: tuple[int, ...] = (21, 61)
    decoded: int = 9  # latents
    vae_width: int = 96
    copied: int = 2**30  # bytes
    repeats: int = 3


TOY = Sizes(
    side=(4, 6), head=12, heads=(("14B", 4), ("1.3B", 2)), blocks=2, clips=(5, 17), decoded=3, vae_width=8, copied=2**20
)


@dataclass
class Bench:
    """Where, how large and in which numbers; `rows` are the figures so far."""

    device: torch.device
    sizes: Sizes
    rows: dict[str, dict[str, Any]]

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def measure(self, name: str, way: Callable[[], Any], *, repeats: int | None = None, **figures: Any) -> None:
        """Add a row: median seconds of a way after one call that is not counted, and the most memory beside what was there."""
        seconds, peak = self._seconds(way, repeats or self.sizes.repeats)
        row = {"seconds": statistics.median(seconds), "all": seconds, "peak_GB": peak / 1e9, **figures}
        if "TFLOP" in figures:
            row["TFLOP/s"] = figures["TFLOP"] / row["seconds"]
        self.rows[name] = row
        print(
            f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float)), flush=True
        )

    def _seconds(self, way: Callable[[], Any], repeats: int) -> tuple[list[float], int]:
        on_gpu = self.device.type == "cuda"
        way()
        seconds, before = [], 0
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        for _ in range(repeats):
            began = time.perf_counter()
            way()
            if on_gpu:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        return seconds, torch.cuda.max_memory_allocated() - before if on_gpu else 0

    def view(self, latents: int) -> View:
        """Return one rank's view of a video of so many latents."""
        budget = GPU_BYTES if self.device.type == "cuda" else CPU_BYTES
        return View(Group(0, 1, self.device), Span(latents, LOCAL, GLOBAL), Slices(budget))

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, device=self.device, dtype=self.dtype)


def attention(bench: Bench) -> None:
    """Dual scope as the pack runs it, dense attention over all latents, and one call with as many keys and nothing to gather."""
    for net, heads in bench.sizes.heads:
        _attention_of(bench, net, heads)


def _attention_of(bench: Bench, net: str, heads: int) -> None:
    sizes, latents = bench.sizes, bench.sizes.clips[-1]
    tokens = sizes.side[0] * sizes.side[1]
    view = bench.view(latents)
    dual = DualScopeAttention(view, Plans(view, "near"), Grid(sizes.side, sizes.head), travel="hidden_states")
    plan = dual.plans.of(0)
    frames = [bench.random(1, latents, tokens, heads, sizes.head) for _ in range(3)]
    keys = sum(some.keys.numel() for some in plan.queries)  # frames, of all query frames
    teras = 4 * tokens**2 * heads * sizes.head / 1e12
    bench.measure(f"attention, {net}, dual scope", lambda: dual._attend(plan, *frames), TFLOP=keys * teras)
    whole = [rearrange(x, "b f p n d -> b n (f p) d") for x in frames]
    bench.measure(f"attention, {net}, dense", lambda: scaled_dot_product_attention(*whole), TFLOP=latents**2 * teras)
    seen = keys // latents
    at_hand = [bench.random(latents, heads, length, sizes.head) for length in (tokens, seen * tokens, seen * tokens)]
    name = f"attention, {net}, as many keys at hand"
    bench.measure(name, lambda: scaled_dot_product_attention(*at_hand), TFLOP=seen * latents * teras)


def block_mask(bench: Bench) -> None:
    """`flex_attention` compiled, with a block mask of the same frames; positions are as they come."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    sizes, latents = bench.sizes, bench.sizes.clips[-1]
    tokens, span = sizes.side[0] * sizes.side[1], Span(latents, LOCAL, GLOBAL)
    sees = torch.zeros(latents, latents, dtype=torch.bool, device=bench.device)
    for query in range(latents):
        sees[query, list(scope.keys(range(query, query + 1), span)) + [query]] = True
    whole = latents * tokens
    made = lambda b, h, q, k: sees[q // tokens, k // tokens]  # noqa: E731
    mask = create_block_mask(made, None, None, whole, whole, device=str(bench.device), _compile=bench.device.type == "cuda")
    run = torch.compile(flex_attention) if bench.device.type == "cuda" else flex_attention
    net, heads = sizes.heads[-1]
    made_of = [bench.random(1, heads, whole, sizes.head) for _ in range(3)]
    teras = int(sees.sum()) * 4 * tokens**2 * heads * sizes.head / 1e12
    bench.measure(f"attention, {net}, flex_attention", lambda: run(*made_of, block_mask=mask), TFLOP=teras)


def net_call(bench: Bench) -> None:
    """A call of 1.3B's net, as it is stock and as the pack runs it on one rank."""
    sizes = bench.sizes
    heads = sizes.heads[-1][1]
    width = heads * sizes.head
    feed_forward = width * 35 // 6
    with bench.device:
        made = WanTransformer3DModel(
            num_attention_heads=heads, attention_head_dim=sizes.head, ffn_dim=feed_forward, num_layers=sizes.blocks
        )
    lower(made, bench.dtype)
    stock_rope = made.rope
    texts, time_ = bench.random(1, TEXT, 4096), torch.tensor([500.0], device=bench.device)
    for latents in sizes.clips:
        x = bench.random(1, 16, latents, 2 * sizes.side[0], 2 * sizes.side[1])
        call = lambda: made(x, time_, texts, return_dict=False)[0]  # noqa: B023, E731
        made.rope = stock_rope
        bench.measure(f"net, 1.3B, {latents} latents, stock", call, repeats=2)
        made.rope = NoRotation()
        heard = {0: one_text(latents)}
        with patched(changes(made, bench.view(latents), heard, size=sizes.side)):
            bench.measure(f"net, 1.3B, {latents} latents, dual scope", call, repeats=2)
    weights = sum(p.numel() * p.element_size() for p in made.parameters())
    if bench.device.type == "cuda":
        bench.measure("net, 1.3B, to host memory and back", lambda: made.cpu().to(bench.device), repeats=2, GB=weights / 1e9)


def decode(bench: Bench) -> None:
    """Wan 2.1's VAE: the stock decode, ours from the start, and ours of the same latents far from it."""
    sizes = bench.sizes
    with bench.device:
        vae = AutoencoderKLWan(base_dim=sizes.vae_width)
    lower(vae, bench.dtype)
    halo, height, width = wan_vae.decode_reach(vae), 2 * sizes.side[0], 2 * sizes.side[1]
    whole = bench.random(1, 16, halo + sizes.decoded, height, width)
    first = whole[:, :, : sizes.decoded]

    def ours(latents: torch.Tensor, halo: int, from_start: bool) -> None:
        for _ in wan_vae.decode(vae, latents, halo=halo, from_start=from_start):
            pass

    figures = {"repeats": 1, "latents": sizes.decoded}
    bench.measure("decode, stock", lambda: vae.decode(first), **figures)
    bench.measure("decode, ours", lambda: ours(first, 0, True), **figures)
    bench.measure("decode, ours, in the middle", lambda: ours(whole, halo, False), **figures, halo=halo)


def copies(bench: Bench) -> None:
    """Pinned host memory, there and back: what offloading waits for."""
    if bench.device.type != "cuda":
        return
    host = torch.empty(bench.sizes.copied, dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(host, device=bench.device)
    for name, way in (("to the GPU", lambda: there.copy_(host)), ("from the GPU", lambda: host.copy_(there))):
        bench.measure(f"copy, {name}", way)
        bench.rows[f"copy, {name}"]["GB/s"] = bench.sizes.copied / 1e9 / bench.rows[f"copy, {name}"]["seconds"]


PARTS = {each.__name__: each for each in (attention, net_call, decode, copies, block_mask)}


def machine(device: torch.device) -> dict[str, str]:
    """Return what the figures were measured on."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": card, "torch": torch.__version__, "diffusers": diffusers.__version__, "date": time.strftime("%Y-%m-%d")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--toy", action="store_true", help="at toy sizes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=FOLDER / "gpu.json")
    args = parser.parse_args()
    bench, errors, began = Bench(args.device, TOY if args.toy else Sizes(), {}), {}, time.perf_counter()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for name in args.parts:
        try:
            with torch.inference_mode():
                PARTS[name](bench)
        except Exception as error:  # a card is lent for minutes: what else can be measured is, and the report says what broke
            errors[name] = f"{type(error).__name__}: {error}"
            print(f"{name}: {errors[name]}", flush=True)
        content = {"machine": machine(args.device), "toy": args.toy, "rows": bench.rows, "errors": errors}
        content["seconds"] = round(time.perf_counter() - began)
        args.out.write_text(json.dumps(content, indent=1) + "\n")
        if args.device.type == "cuda":
            torch.cuda.empty_cache()
    return int(bool(errors))


if __name__ == "__main__":
    raise SystemExit(main())
