"""Wan against what else a user would run: `python -m benchmarks.wan_compare`

Seconds a latent of one call of the net, one branch, one thread, at 4 and at 10 times the trained length: diffusers' stock model over
the whole video, averaged windows as ComfyUI's (21 latents, of which 8 are shared), and ours on one rank. What a pipeline does
besides, a scheduler's step, is the same for all and next to nothing. Beside them the most bytes of activations alive.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers import WanTransformer3DModel

from benchmarks import averaged_windows, wan_standard
from benchmarks.claims import Claim, ratio, report, take_turns
from harness.live import LiveBytes
from parallel.layers.patch import patched

TIMES = {4: "<= 0.5", 10: "<= 0.25"}  # the trained length: against the stock model
WINDOWS = "<= 0.75"
WINDOW, SHARED = wan_standard.TRAINED, 8
REPEATS = 2
Way = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def whole(net: WanTransformer3DModel) -> Way:
    """The stock model, all latents at once."""
    return lambda *called: net(*called, return_dict=False)[0]


def windows(net: WanTransformer3DModel) -> Way:
    """Windows that overlap, each latent the mean of those that hold it, weighted towards a window's middle."""

    def run(video: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        latents = video.shape[2]
        window = min(WINDOW, latents)
        weight = averaged_windows.ramp(window)[:, None, None]
        total, weights = torch.zeros_like(video), torch.zeros(latents, 1, 1)
        for start in averaged_windows.starts(latents, window, WINDOW - SHARED):
            own = slice(start, start + window)
            total[:, :, own] += weight * whole(net)(video[:, :, own], timestep, text)
            weights[own] += weight
        return total / weights

    return run


def ours(net: WanTransformer3DModel) -> Way:
    """Dual-scope attention on one rank, as the sampler runs it: what it changes is built once for a job."""
    known: dict[int, Any] = {}

    def run(video: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        latents = video.shape[2]
        if latents not in known:
            known[latents] = wan_standard.changes(net, wan_standard.alone(latents))
        with patched(known[latents]):
            return net(video, timestep, text, return_dict=False)[0]

    return run


def ways() -> dict[str, Way]:
    """Return the ways by name, on nets of the same weights."""
    stock = wan_standard.net(rope=True)
    return {"stock, whole video": whole(stock), "averaged windows": windows(stock), "ours": ours(wan_standard.net())}


@torch.inference_mode()
def measure(latents: int, repeats: int) -> dict[str, dict[str, Any]]:
    """Return of each way its seconds, turn by turn, and the most bytes of activations alive."""
    made, called = ways(), wan_standard.call(latents)
    found: dict[str, dict[str, Any]] = {}
    for name, way in made.items():
        with LiveBytes(known=called) as live:
            way(*called)
        found[name] = {"peak": live.peak}
    bound = {name: lambda way=way: way(*called) for name, way in made.items()}
    for name, seconds in take_turns(repeats, **bound).items():
        found[name]["seconds"] = seconds
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    asked, began = parser.parse_args(), time.perf_counter()
    torch.set_num_threads(1)
    claims, rows = [], {}
    for times, target in TIMES.items():
        latents = times * wan_standard.TRAINED
        found = measure(latents, asked.repeats)
        for name, each in found.items():
            row = rows.setdefault(name, {})
            row[f"ms a latent, {times}x"] = 1000 * statistics.median(each["seconds"]) / latents
            row[f"peak MB, {times}x"] = each["peak"] / 1e6
        seconds = {name: each["seconds"] for name, each in found.items()}
        details = {name: row[f"ms a latent, {times}x"] for name, row in rows.items()}
        details = {f"ms a latent, {name}": value for name, value in details.items()}
        against = {"the stock model": ("stock, whole video", target), "averaged windows": ("averaged windows", WINDOWS)}
        for title, (way, bound) in against.items():
            claims.append(Claim(f"Wan, time over {title}'s at {times}x", ratio(seconds["ours"], seconds[way]), bound, details))
            details = {}
    for name, row in rows.items():
        print(name, {key: round(value, 2) for key, value in row.items()}, flush=True)
    report("wan_compare", claims, began, rows=rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
