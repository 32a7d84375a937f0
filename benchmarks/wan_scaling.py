"""Wan on GPUs that are not here: `python -m benchmarks.wan_scaling` (under a minute, computes nothing large)

First the cost model is put to the test: from LVSA's two shortest dense runs on an A100 it predicts the longest ones, dense and with as
many keys as LVSA's; from an H100's stock calls a call of ours. Then it says what a step takes on 1 to 64 GPUs.
"""

import time
from typing import Any

from benchmarks import cost_model, wan_cost_model
from benchmarks.claims import Claim, report
from benchmarks.wan_cost_model import FRAMES, GPU, NETS, SIZES, SMALL, SMALL_TOKENS, TRAINED

RANKS = (1, 2, 4, 8, 16, 32, 64)
FEW_RANKS = (1, 2, 4, 8)
LONGEST, H100_LATENTS = 481, 61
TARGET = "<= 0.2"
LINKS = {link.name: link for link in cost_model.LINKS}


def lvsa(frames: int, *, dense: bool) -> float:
    """Return the seconds of a run of LVSA's by the model, on its A100."""
    latents = wan_cost_model.latents_of(frames)
    pairs = latents * (latents if dense else min(latents, TRAINED))
    gpu, calls = wan_cost_model.a100(), wan_cost_model.LVSA_CALLS
    return calls * wan_cost_model.call_seconds(gpu, SMALL, SMALL_TOKENS, latents, pairs, gathers=False)


def lvsa_rows() -> dict[str, dict[str, float]]:
    """Return LVSA's published runs beside the model's."""
    found = {}
    for name, published in (("dense", wan_cost_model.LVSA_DENSE), ("LVSA", wan_cost_model.LVSA_SPARSE)):
        for frames, seconds in published.items():
            said = lvsa(frames, dense=name == "dense")
            found[f"{name}, {frames} frames"] = {"published": seconds, "predicted": said, "apart": said / seconds - 1}
    return found


def h100_call() -> float:
    """Return the seconds of the H100's call of dual scope by the model."""
    span = wan_cost_model.Span(H100_LATENTS, wan_cost_model.LOCAL, wan_cost_model.GLOBAL)
    pairs = wan_cost_model.seen(span, range(H100_LATENTS))
    return wan_cost_model.call_seconds(wan_cost_model.h100(), SMALL, SMALL_TOKENS, H100_LATENTS, pairs)


def steps(gpu: GPU, link: cost_model.Link, net: str, size: str, frames: int) -> dict[int, float | None]:
    """Return seconds a step by ranks; None where there are fewer latents than ranks or a rank has no room for its clip."""
    shape = NETS[net]
    tokens, latents = shape.tokens(*SIZES[size]), wan_cost_model.latents_of(frames)
    found: dict[int, float | None] = {}
    for ranks in RANKS:
        runs = ranks <= latents and wan_cost_model.fits(gpu, shape, tokens, frames, ranks)
        found[ranks] = wan_cost_model.step_seconds(gpu, shape, tokens, frames, ranks, link) if runs else None
    return found


def draw_up() -> list[dict[str, Any]]:
    """Return a row for each GPU, link, net, size and length."""
    found = []
    for gpu in (wan_cost_model.h100(), wan_cost_model.rtx4090()):
        for link in wan_cost_model.link_names(gpu):
            for net in NETS:
                for size in SIZES:
                    for frames in FRAMES:
                        named = {"GPU": gpu.name, "link": link, "net": net, "size": size, "frames": frames}
                        found.append({**named, "seconds": steps(gpu, LINKS[link], net, size, frames)})
    return found


def lvsa_by_ranks() -> dict[int, float]:
    """Return the seconds of 50 steps of LVSA's longest video with our scopes, on so many of its A100 over NVLink."""
    gpu = wan_cost_model.a100()
    seconds = {n: wan_cost_model.step_seconds(gpu, SMALL, SMALL_TOKENS, LONGEST, n, LINKS["NVLink"]) for n in FEW_RANKS}
    return {ranks: wan_cost_model.LVSA_CALLS / wan_cost_model.BRANCHES * each for ranks, each in seconds.items()}


def main() -> int:
    began = time.perf_counter()
    known, by_ranks = lvsa_rows(), lvsa_by_ranks()
    worst = max(abs(known[f"{name}, {LONGEST} frames"]["apart"]) for name in ("dense", "LVSA"))
    details = {
        f"{name}, seconds": f"{row['published']} published, {row['predicted']:.0f} by the model" for name, row in known.items()
    }
    details |= {f"481 frames, dual scope, {ranks} A100, seconds": seconds for ranks, seconds in by_ranks.items()}
    measured, said = wan_cost_model.H100_MEASURED, h100_call()
    on_h100 = {"seconds measured": measured, "by the model": said}
    claims = [
        Claim("Wan cost model, LVSA's 481 frames", worst, TARGET, details),
        Claim("Wan cost model, a call of ours on an H100", abs(said / measured - 1), TARGET, on_h100),
    ]
    gpus = {
        gpu.name: {"TFLOP/s, tokens": gpu.token_flops / 1e12, "TFLOP/s, attention": gpu.pair_flops / 1e12}
        for gpu in (wan_cost_model.a100(), wan_cost_model.h100(), wan_cost_model.rtx4090())
    }
    report("wan_scaling", claims, began, lvsa=known, by_ranks=by_ranks, gpus=gpus, steps=draw_up())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
