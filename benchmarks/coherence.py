"""Do long videos hold together? `python -m benchmarks.coherence` makes the study of docs/quality.md, `--quick` a part of it.

`python -m benchmarks.coherence --video FILE --clips N` scores any video, by anything, that was joined of N clips.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from benchmarks import quality_plots, shape_metrics, study, video_metrics
from benchmarks.claims import FOLDER, Claim, report
from parallel.maths import clips

RESAMPLES = 2000
MOST_PIXELS = 256  # on a video's longer side: what it is scored at
MOST_FRAMES = 10_000
Row = dict[str, Any]


def interval(of: Callable[[Sequence[Row]], float], rows: Sequence[Row]) -> tuple[float, float, float]:
    """Return a figure of some videos, and the ends of its 95 % interval, by resampling whole videos (bootstrap)."""
    chance = np.random.default_rng(0)
    draws = [of([rows[n] for n in chance.integers(0, len(rows), len(rows))]) for _ in range(RESAMPLES if len(rows) > 1 else 0)]
    known = [draw for draw in draws if not np.isnan(draw)]
    low, high = np.percentile(known, [2.5, 97.5]) if known else (float("nan"),) * 2
    return of(rows), float(low), float(high)


def seam_ratio(kind: str) -> Callable[[Sequence[Row]], float]:
    """Return the function: mean at borders / mean inside clips, each video's own parts weighted alike."""

    def of(rows: Sequence[Row]) -> float:
        border, inside = (np.concatenate([row["seams"][kind][part] for row in rows]) for part in (0, 1))
        return float(border.mean() / inside.mean()) if len(border) and len(inside) else float("nan")

    return of


def seam_p(kind: str, rows: Sequence[Row]) -> float:
    """Return the p-value of a one-sided rank test that values at borders are larger, all videos together."""
    return shape_metrics.border_p(*(np.concatenate([row["seams"][kind][part] for row in rows]) for part in (0, 1)))


def mean_of(*path: str) -> Callable[[Sequence[Row]], float]:
    """Return the function: the mean of a figure over videos."""

    def of(rows: Sequence[Row]) -> float:
        values = []
        for row in rows:
            value: Any = row
            for key in path:
                value = value[key]
            values.append(value)
        return float(np.nanmean(values)) if not np.all(np.isnan(values)) else float("nan")

    return of


def kept_to_the_end(rows: Sequence[Row]) -> float:
    """Return the share of videos whose last window shows the shape, colour and background of the first."""
    return float(np.mean([list(row["identity"].values())[-1] == 1.0 for row in rows]))


FIGURES: dict[str, Callable[[Sequence[Row]], float]] = {
    **{f"seam, {kind}": seam_ratio(kind) for kind in ("position", "velocity", "pixels", "latents")},
    **{part: mean_of("motion", part) for part in ("seen", "as captioned", "unsteady", "teleports", "speed", "period")},
    "kept to the end": kept_to_the_end,
    "jitter": mean_of("jitter"),
}
SWITCH_FIGURES = ("arrival", "changed far before", "changed just before", "changed after")


def sum_up(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return, by "way, T frames", the figures with their intervals, and the rank tests."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        kind = "prompt switch" if row["switch"] else row["way"]
        groups.setdefault(f"{kind}, {row['frames']} frames", []).append(row)
    table = {}
    for name, some in groups.items():
        table[name] = {"videos": len(some), **{figure: interval(of, some) for figure, of in FIGURES.items()}}
        table[name] |= {f"p, {kind}": seam_p(kind, some) for kind in ("position", "velocity", "pixels", "latents")}
        if some[0]["switch"]:
            table[name] |= {figure: interval(mean_of(figure), some) for figure in SWITCH_FIGURES}
    return table


def claims(table: dict[str, dict[str, Any]], *, quick: bool, minutes: float) -> list[Claim]:
    """Return what must hold. The full study's are of more videos, and longer ones."""
    ours, apart = (table[f"{way}, {study.SHORT} frames"]["seam, position"] for way in ("default", "independent clips"))
    ends = {"ratio": ours[0], "lower end": ours[1], "upper end": ours[2]}
    found = [
        Claim("quality: no visible border at defaults, lower end of the seam ratio", ours[1], "<= 1.0", ends),
        Claim(
            "quality: independent clips, position seam ratio",
            apart[0],
            ">= 3.0",
            {"lower end": apart[1], "upper end": apart[2]},
        ),
    ]
    if not quick:
        kept, off = (table[f"{way}, {study.LONG} frames"] for way in ("default", "global scope off"))
        details = {"videos": kept["videos"], "with the global scope off": off["kept to the end"][0]}
        found.append(Claim(f"quality: identity kept to frame {study.LONG}", kept["kept to the end"][0], ">= 0.95", details))
    return [*found, Claim(f"quality: minutes of the {'quick ' * quick}study", minutes, "<= 4" if quick else "<= 40")]


def run_study(*, quick: bool) -> int:
    """Make all videos, sum up, draw; leave bench/coherence.json (or coherence_quick.json) and pictures."""
    began = time.perf_counter()
    tasks, rows = study.plan(quick), []
    for row in study.run(tasks):
        rows.append(row)
        print(
            f"{time.perf_counter() - began:6.0f} s  {len(rows)}/{len(tasks)}  {row['way']}, {row['frames']}, seed {row['seed']}",
            flush=True,
        )
    pictures = {f"{row['way']}, {row['frames']} frames": row.pop("pictures") for row in rows if "pictures" in row}
    table = sum_up(rows)
    minutes = (time.perf_counter() - began) / 60
    FOLDER.mkdir(exist_ok=True)
    quality_plots.draw(table, rows, pictures)
    name = "coherence_quick" if quick else "coherence"
    command = f"python -m benchmarks.coherence{' --quick' * quick}"
    return report(name, claims(table, quick=quick, minutes=minutes), began, command=command, table=table, steps=study.STEPS)


def read_video(file: Path) -> torch.Tensor:
    """Return a video's frames, (T, H, W, 3) in [0, 1], at most MOST_PIXELS long and MOST_FRAMES many."""
    frames = []
    with av.open(str(file)) as container:
        for frame in container.decode(video=0):
            shrink = min(1.0, MOST_PIXELS / max(frame.width, frame.height))
            small = frame.reformat(round(frame.width * shrink), round(frame.height * shrink), "rgb24")
            frames.append(torch.from_numpy(small.to_ndarray()))
            if len(frames) == MOST_FRAMES:
                break
    return torch.stack(frames).float() / 255


def score_video(file: Path, count: int) -> int:
    """Print the general metrics of a video as JSON."""
    frames = read_video(file)
    borders = tuple(clip.start for clip in clips.cut(len(frames), count) if clip.start)
    found = video_metrics.score(frames, borders, clip_length=min(16, len(frames)), strides=(16, len(frames) // count))
    found = {name: None if value != value else value for name, value in found.items()}  # JSON knows no NaN
    print(json.dumps({"frames": len(frames), "borders": borders, **found}, indent=1))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="some minutes instead of half an hour or more")
    parser.add_argument("--video", type=Path, help="score this video instead")
    parser.add_argument("--clips", type=int, default=1, help="of how many clips of even lengths it was joined")
    args = parser.parse_args()
    return score_video(args.video, args.clips) if args.video else 0 * run_study(quick=args.quick)


if __name__ == "__main__":
    raise SystemExit(main())
