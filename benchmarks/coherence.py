"""Do long videos hold together? `python -m benchmarks.coherence` makes the study of docs/quality.md, `--quick` a part of it.

`python -m benchmarks.coherence --video FILE --clips N` scores any video, by anything, that was joined of N clips.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest, wilcoxon

from benchmarks import any_video, quality_plots, shape_metrics, study
from benchmarks.claims import FOLDER, Claim, report
from benchmarks.shape_metrics import ROUND
from benchmarks.study import ELSEWHERE, SEAMS

RESAMPLES = 2000
MOTION = ("seen", "as captioned", "unsteady", "teleports", "speed", "period")
SWITCHED = ("arrival", "changed far before", "changed just before", "changed after")
GENERAL = ("flicker", "warp_error", "flow", "seam_jump", "seam_jolt", "drift_histogram", "stagnation_ratio", "repetition_16")
Row = dict[str, Any]
Parts = Callable[[Row], Sequence[float]]


def value(sums: np.ndarray) -> np.ndarray:
    """Return a figure from the sums of its parts over videos: total / count, or one such mean over another; NaN where none is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        means = sums[..., ::2] / sums[..., 1::2]
        return means[..., 0] / means[..., 1] if means.shape[-1] == 2 else means[..., 0]


def interval(parts: Parts, rows: Sequence[Row]) -> tuple[float, float, float]:
    """Return a figure of some videos, and the ends of its 95 % interval, by resampling whole videos (bootstrap)."""
    known = np.array([parts(row) for row in rows], dtype=float)
    if len(rows) == 1:
        return float(value(known.sum(0))), float("nan"), float("nan")
    chosen = np.random.default_rng(0).integers(0, len(rows), (RESAMPLES, len(rows)))
    draws = value(known[chosen].sum(1))
    low, high = np.percentile(draws[np.isfinite(draws)], [2.5, 97.5]) if np.isfinite(draws).any() else (float("nan"),) * 2
    return float(value(known.sum(0))), float(low), float(high)


def seam_ratio(kind: str) -> Parts:
    """Return the parts of: mean at borders / mean inside clips."""

    def parts(row: Row) -> list[float]:
        return [part for values in row["seams"][kind] for part in (sum(values), len(values))]

    return parts


def seam_p(kind: str, rows: Sequence[Row]) -> float:
    """Return the p-value of a one-sided rank test that values at borders are larger, all videos together."""
    return shape_metrics.border_p(*(np.concatenate([row["seams"][kind][part] for row in rows]) for part in (0, 1)))


def mean_of(find: Callable[[Row], float]) -> Parts:
    """Return the parts of the mean over those videos that have a figure."""

    def parts(row: Row) -> tuple[float, float]:
        found = find(row)
        return (0.0, 0.0) if np.isnan(found) else (found, 1.0)

    return parts


def kept(part: str) -> Callable[[Row], float]:
    """Return the function: share of the later windows in which a part of the identity is as in the first; NaN without any."""

    def share_kept(row: Row) -> float:
        later = list(row["identity"][part].values())[1:]
        return float(np.mean(later)) if later else float("nan")

    return share_kept


def identity_kept(row: Row) -> float:
    """Return the mean of the parts' shares."""
    return float(np.mean([kept(part)(row) for part in ROUND]))


def kept_to_the_end(row: Row) -> float:
    """Return whether the last window shows the shape, colour and background of the first, 0 or 1."""
    return float(all(list(row["identity"][part].values())[-1] for part in ROUND))


def share(find: Callable[[Row], float], rows: Sequence[Row]) -> tuple[float, float, float]:
    """Return the share of videos of which something is true, and its exact 95 % interval (Clopper-Pearson)."""
    true = sum(map(find, rows))
    ends = binomtest(int(true), len(rows)).proportion_ci()
    return true / len(rows), float(ends.low), float(ends.high)


FIGURES: dict[str, Parts] = {
    **{f"seam, {kind}": seam_ratio(kind) for kind in (*SEAMS, ELSEWHERE)},
    **{part: mean_of(lambda row, part=part: row["motion"][part]) for part in MOTION},
    **{part: mean_of(kept(part)) for part in ROUND},
    "identity": mean_of(identity_kept),
    "jitter": mean_of(lambda row: row["jitter"]),
}


def sum_up(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return, by a task's name, the figures with their intervals, and the rank tests.

    `pace` is the speed over that of the default's video of the same length and seed.
    """
    groups: dict[str, list[Row]] = {}
    speeds = {_like(row): row["motion"]["speed"] for row in rows if row["way"] == "default" and not row["switch"]}
    pace = mean_of(lambda row: row["motion"]["speed"] / speeds.get(_like(row), float("nan")))
    for row in rows:
        groups.setdefault(row["name"], []).append(row)
    table = {}
    for name, some in groups.items():
        table[name] = {"videos": len(some), **{figure: interval(parts, some) for figure, parts in FIGURES.items()}}
        table[name] |= {"pace": interval(pace, some), "kept to the end": share(kept_to_the_end, some)}
        table[name] |= {f"p, {kind}": seam_p(kind, some) for kind in SEAMS}
        if some[0]["general"]:
            table[name] |= {
                figure: interval(mean_of(lambda row, figure=figure: row["general"][figure]), some) for figure in GENERAL
            }
        if some[0]["switch"]:
            table[name] |= {figure: interval(mean_of(lambda row, figure=figure: row[figure]), some) for figure in SWITCHED}
            table[name]["arrived"] = share(lambda row: float(not np.isnan(row["arrival"])), some)
    return table


def _like(row: Row) -> tuple[int, int, bool]:
    return row["frames"], row["seed"], row["silent"]


def scope_keeps_identity(rows: Sequence[Row]) -> Claim:
    """Claim that without a caption, which says again and again what is to be seen, the global scope keeps identity.

    A one-sided Wilcoxon test of pairs, of one seed each, with the scope and without.
    """
    on, off = (
        {row["seed"]: identity_kept(row) for row in rows if row["name"] == f"{way}, no caption, {study.MIDDLE} frames"}
        for way in ("default", "global scope off")
    )
    pairs = [(on[seed], off[seed]) for seed in sorted(on.keys() & off.keys())]
    p = float(wilcoxon(*zip(*pairs), alternative="greater").pvalue)
    means = np.mean(pairs, axis=0)
    details = {"pairs of videos": len(pairs), "on": float(means[0]), "off": float(means[1])}
    return Claim("quality: without a caption the global scope keeps identity, p", p, "<= 0.05", details)


def claims(table: dict[str, dict[str, Any]], rows: Sequence[Row], *, quick: bool, minutes: float) -> list[Claim]:
    """Return what must hold. The full study's are of more videos, and longer ones."""
    ours, apart = (table[f"{way}, {study.SHORT} frames"]["seam, position"] for way in ("default", "independent clips"))
    found = [
        Claim("quality: no visible border at defaults, lower end of the seam ratio", ours[1], "<= 1.0", {"ratio": ours[0]}),
        Claim("quality: the same, upper end", ours[2], "<= 1.25"),
        Claim("quality: independent clips, lower end of the seam ratio", apart[1], ">= 3.0", {"ratio": apart[0]}),
    ]
    if not quick:
        long, off = (table[f"{way}, {study.LONG} frames"] for way in ("default", "global scope off"))
        found.append(Claim(f"quality: seam ratio over {study.LONG} frames, upper end", long["seam, position"][2], "<= 1.05"))
        details = {"videos": long["videos"], "with the global scope off": off["kept to the end"][0]}
        found.append(Claim(f"quality: identity kept to frame {study.LONG}", long["kept to the end"][0], ">= 0.95", details))
        found.append(scope_keeps_identity(rows))
    return [*found, Claim(f"quality: minutes of the {'quick ' * quick}study", minutes, "<= 4" if quick else "<= 40")]


def run_study(*, quick: bool) -> None:
    """Make all videos and sum up; leave bench/coherence.json and pictures, or coherence_quick.json."""
    began = time.perf_counter()
    tasks, rows = study.plan(quick), []
    for row in study.run(tasks):
        rows.append(row)
        print(
            f"{time.perf_counter() - began:6.0f} s  {len(rows)}/{len(tasks)}  {row['name']}, seed {row['seed']}",
            flush=True,
        )
    pictures = {row["name"]: row.pop("pictures") for row in rows if "pictures" in row}
    table = sum_up(rows)
    if not quick:
        FOLDER.mkdir(exist_ok=True)
        quality_plots.draw(table, rows, pictures)
    minutes = (time.perf_counter() - began) / 60
    name = "coherence_quick" if quick else "coherence"
    command = f"python -m benchmarks.coherence{' --quick' * quick}"
    report(name, claims(table, rows, quick=quick, minutes=minutes), began, command=command, table=table, steps=study.STEPS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="some minutes instead of half an hour or more")
    parser.add_argument("--video", type=Path, help="score this video instead")
    parser.add_argument("--clips", type=int, default=1, help="of how many clips of even lengths it was joined")
    args = parser.parse_args()
    if args.video:
        return any_video.main(args.video, args.clips)
    run_study(quick=args.quick)
    return 0  # a claim that does not hold is a finding, and said as such


if __name__ == "__main__":
    raise SystemExit(main())
