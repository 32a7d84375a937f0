"""Does the small Wan hold long videos together? `python -m benchmarks.wan_coherence` makes the study of docs/quality_wan.md.

`--quick` makes a part of it.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import wan_quality_plots, wan_study
from benchmarks.claims import FOLDER, Claim, report
from benchmarks.coherence import identity_kept, interval, kept_to_the_end, mean_of, seam_p, seam_ratio, share
from benchmarks.wan_study import LONG, LONGEST, MIDDLE, TRAINED

MOTION = ("seen", "as captioned", "unsteady", "teleports", "speed", "period")
SEAMS = ("position", "velocity", "pixels")
Row = dict[str, Any]


def found(name: str) -> Callable[[Row], float]:
    """Return the function: a number that a row has by itself."""
    return lambda row: row[name]


def name_of(row: Row) -> str:
    """Return what rows of all seeds have in common."""
    return f"{row['way']}, {row['times']}x"


def sum_up(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return figures with their 95 % intervals, by way and length.

    `pace` is the speed over that of the clip of the trained length from the same seed.
    """
    trained = {row["seed"]: row["motion"]["speed"] for row in rows if row["times"] == 1}

    def pace(row: Row) -> float:
        own = trained.get(row["seed"])
        return row["motion"]["speed"] / own if own else float("nan")

    means: dict[str, Callable[[Row], float]] = {
        **{part: (lambda row, part=part: row["motion"][part]) for part in MOTION},
        "pace": pace,
        "identity": identity_kept,
        "jitter": found("jitter"),
        "repeats": found("repeats"),
        "return": found("return"),
    }
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(name_of(row), []).append(row)
    return {
        name: {
            "videos": len(some),
            **{f"seam, {kind}": interval(seam_ratio(kind), some) for kind in SEAMS},
            **{f"p, {kind}": seam_p(kind, some) for kind in SEAMS},
            **{figure: interval(mean_of(find), some) for figure, find in means.items()},
            "kept to the end": share(kept_to_the_end, some),
            "far": np.mean([row["far"] for row in some], axis=0).tolist(),
        }
        for name, some in groups.items()
    }


def claims(table: dict[str, dict[str, Any]], *, quick: bool, minutes: float) -> list[Claim]:
    """Return what must hold."""
    middle = table[f"default, {MIDDLE // TRAINED}x"]
    apart = table[f"independent clips, {MIDDLE // TRAINED}x"]
    made = [
        Claim(
            "quality: Wan, no visible border at defaults, lower end of the seam ratio", middle["seam, position"][1], "<= 1.0"
        ),
        Claim("quality: Wan, independent clips, lower end of the seam ratio", apart["seam, position"][1], ">= 1.5"),
    ]
    if not quick:
        ours, dense = (table[f"{way}, {LONG // TRAINED}x"] for way in ("default", "dense"))
        longest = table[f"default, {LONGEST // TRAINED}x"]
        made += [
            Claim(
                "quality: Wan, pace at 10x over the trained length's", ours["pace"][0], ">= 0.9", {"dense": dense["pace"][0]}
            ),
            Claim("quality: Wan, identity kept at 30x", longest["identity"][0], ">= 0.95"),
        ]
    return [*made, Claim(f"quality: minutes of Wan's {'quick ' * quick}study", minutes, "<= 4" if quick else "<= 40")]


def run_study(*, quick: bool) -> None:
    """Make all videos and sum up; leave bench/wan_coherence.json and pictures, or wan_coherence_quick.json."""
    began = time.perf_counter()
    tasks, rows = wan_study.plan(quick=quick), []
    for row in wan_study.run(tasks):
        rows.append(row)
        print(f"{time.perf_counter() - began:6.0f} s  {len(rows)}/{len(tasks)}  {name_of(row)}, seed {row['seed']}", flush=True)
    pictures = {name_of(row): row.pop("pictures") for row in rows if "pictures" in row}
    table = sum_up(rows)
    if not quick:
        FOLDER.mkdir(exist_ok=True)
        wan_quality_plots.draw(table, pictures)
    minutes = (time.perf_counter() - began) / 60
    name = f"wan_coherence{'_quick' * quick}"
    command = f"python -m benchmarks.wan_coherence{' --quick' * quick}"
    steps = wan_study.wan_ways.STEPS
    report(name, claims(table, quick=quick, minutes=minutes), began, command=command, table=table, steps=steps)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute instead of half an hour")
    run_study(quick=parser.parse_args().quick)
    return 0  # a claim that does not hold is a finding, and said as such


if __name__ == "__main__":
    raise SystemExit(main())
