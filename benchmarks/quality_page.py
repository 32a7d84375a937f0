"""Write docs/quality.md from what `make quality` left: `python -m benchmarks.quality_page`. Its tables are never typed."""

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks import study
from benchmarks.ablations import DEFAULT, SCOPES, WAYS, settings
from benchmarks.coherence import GENERAL, MOTION, SWITCHED
from benchmarks.performance_page import show, table
from benchmarks.shape_metrics import ROUND
from benchmarks.study import SEAMS
from parallel.plan import keys_of

BENCH, DOCS = Path("bench"), Path("docs")
PICTURES = (
    "quality_seams",
    "quality_identity",
    "quality_scopes",
    f"quality_sheet_{study.SHORT}",
    f"quality_sheet_{study.MIDDLE}",
    f"quality_sheet_{study.LONG}",
)
SEAM = [f"seam, {kind}" for kind in SEAMS]
CROSSING = [*SEAM, *(f"p, {kind}" for kind in SEAMS)]
MOVING = [*MOTION, "pace", "kept to the end", "jitter"]
KEPT = ["identity", *ROUND, "kept to the end", "unsteady", "teleports", "jitter"]
SWITCH = [*SWITCHED, "arrived"]
Found = dict[str, dict[str, Any]]


def figure(value: list[float] | float) -> str:
    """Return a figure with its interval, if it has one."""
    if not isinstance(value, list):
        return f"{value:.2g}" if isinstance(value, float) else str(value)
    mean, low, high = map(float, value)
    return show(mean) if low != low else f"{show(mean)} ({show(low)} to {show(high)})"


def rows(found: Found, ways: list[str], frames: list[int], figures: list[str]) -> str:
    """Return a table with a row for each way that was measured at each length."""
    names = [(way, length, f"{way}, {length} frames") for length in frames for way in ways]
    measured = [(way, length, found[name]) for way, length, name in names if name in found]
    lines = [[way, str(length), *(figure(line[key]) for key in ("videos", *figures))] for way, length, line in measured]
    return table(["way", "frames", "videos", *figures], lines)


def key_counts(frames: int) -> str:
    """Return how many frames one in the middle attends to, by scope."""
    jobs = [settings(study.job(study.Task(way, frames, 0)), way) for way in (DEFAULT, *SCOPES)]
    lines = [[way.name, str(len(keys_of(job, frames // 2)))] for way, job in zip((DEFAULT, *SCOPES), jobs)]
    return table(["scope", "keys"], lines)


def claim_lines(claims: dict[str, Any]) -> str:
    """Return what must hold as a table."""
    lines = [
        [name.removeprefix("quality: "), show(float(each["value"])), each["target"], "yes" if each["holds"] else "**no**"]
        for name, each in claims.items()
    ]
    return table(["claim", "value", "target", "holds"], lines)


def write(content: dict[str, Any], template: str) -> str:
    """Return the page."""
    found: Found = content["data"]["table"]
    ways = [way.name for way in WAYS]
    short, middle, long = [study.SHORT], [study.MIDDLE], [study.LONG]
    silent = [f"{way}, no caption" for way in (*ways, *(way.name for way in SCOPES))]
    parts = {
        "claims": claim_lines(content["claims"]),
        "seams_short": rows(found, ways, short, CROSSING),
        "seams_long": rows(found, ways, middle + long, ["seam, elsewhere", *CROSSING]),
        "motion_short": rows(found, ways, short, MOVING),
        "motion_long": rows(found, ways, middle + long, MOVING),
        "general": rows(found, ways, short, list(GENERAL)),
        "silent": rows(found, silent, middle + long, KEPT),
        "switch": rows(found, [f"{way}, prompt switch" for way in ways], short, SWITCH),
        "scopes": rows(found, [way.name for way in (DEFAULT, *SCOPES)], middle, MOVING),
        "keys": key_counts(study.MIDDLE),
    }
    said = {
        "date": content["date"],
        "machine": content["machine"],
        "minutes": show(content["seconds"] / 60),
        "steps": str(content["data"]["steps"]),
    }
    at = {f"{name}: {key}": figure(value) for name, line in found.items() for key, value in line.items()}
    return template.format(**said, **parts, at=at)


def main() -> None:
    content = json.loads((BENCH / "coherence.json").read_text())
    (DOCS / "quality").mkdir(exist_ok=True)
    for picture in PICTURES:
        shutil.copy(BENCH / f"{picture}.png", DOCS / "quality" / f"{picture.removeprefix('quality_')}.png")
    (DOCS / "quality.md").write_text(write(content, (DOCS / "quality.template.md").read_text()))


if __name__ == "__main__":
    main()
