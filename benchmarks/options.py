"""What the options that change the video bring and cost: `python -m benchmarks.options`

Stale context and reuse across steps, on two CPU ranks with the bundled model, each against the exact video of the same seeds:
seconds of denoising, bytes sent, and how far pixels are from the exact ones. Beside them, how far another seed's video is.
"""

import statistics
import time
from itertools import pairwise
from pathlib import Path

from benchmarks.claims import report
from parallel.job.job import Job, Prompt, Scope, Tuning
from parallel.pool import Pool, Video

MODEL = Path(__file__).resolve().parents[1] / "assets" / "moving-shapes"
SEEDS = (1, 2, 3)
STEPS = 20
WAYS = {
    "exact": Tuning(),
    "stale context after 4 steps, for 1": Tuning(stale_after=4, stale_for=1),
    "stale context after 4 steps, for 8": Tuning(stale_after=4),
    "reuse, every 2nd step deep": Tuning(reuse_every=2),
    "reuse, every 3rd step deep": Tuning(reuse_every=3),
}


def make(pool: Pool, seed: int, tuning: Tuning) -> Video:
    """Return a video of 48 frames."""
    prompt = Prompt(frame=0, text="a red circle orbiting clockwise on a gray background")
    scope = Scope(local_context=8, global_frames=8)
    size = {"frames": 48, "height": 64, "width": 64, "num_inference_steps": STEPS, "guidance_scale": 3.0}
    return pool.run(Job(model=str(MODEL), prompts=(prompt,), scope=scope, seed=seed, tuning=tuning, **size))


def main() -> int:
    began = time.perf_counter()
    with Pool(("cpu", "cpu"), threads=1) as pool:
        make(pool, 0, Tuning(reuse_every=2))  # warm
        videos = {way: [make(pool, seed, tuning) for seed in SEEDS] for way, tuning in WAYS.items()}
    exact = videos["exact"]
    seconds = {way: [max(rank.seconds["denoise"] for rank in video.ranks) for video in made] for way, made in videos.items()}
    rows = {}
    for way, made in videos.items():
        apart = [float((a.frames - b.frames).abs().mean()) for a, b in zip(made, exact)]
        rows[way] = {
            "time against exact": statistics.median(a / b for a, b in zip(seconds[way], seconds["exact"])),
            "MB sent a rank": statistics.mean(rank.sent_bytes for video in made for rank in video.ranks) / 1e6,
            "mean difference of pixels, 0 to 255": 255 * statistics.mean(apart),
        }
    others = [float((a.frames - b.frames).abs().mean()) for a, b in pairwise(exact)]
    rows["another seed, exact"] = {"mean difference of pixels, 0 to 255": 255 * statistics.mean(others)}
    for way, row in rows.items():
        print(f"{way}: " + ", ".join(f"{name} {value:.3g}" for name, value in row.items()), flush=True)
    report("options", [], began, rows=rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
