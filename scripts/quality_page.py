"""Write docs/quality.md from what `make quality` left: `python -m scripts.quality_page`. Its tables are never typed."""

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks import study
from benchmarks.ablations import DEFAULT, SCOPES, WAYS
from benchmarks.coherence import GENERAL, SEAMS, SWITCHED
from benchmarks.coherence import MOTION as MOVES
from scripts.performance_page import show, table

BENCH, DOCS = Path("bench"), Path("docs")
PICTURES = (
    "quality_seams",
    "quality_identity",
    "quality_scopes",
    f"quality_sheet_{study.SHORT}",
    f"quality_sheet_{study.MIDDLE}",
    f"quality_sheet_{study.LONG}",
)
MOTION = (*MOVES, "pace", "kept to the end", "jitter")
SILENT = ("identity", "kept to the end", "unsteady", "teleports", "jitter")


def figure(value: list[float]) -> str:
    """Return a figure with its interval."""
    mean, low, high = value
    return show(float(mean)) if low != low else f"{show(float(mean))} ({show(float(low))} to {show(float(high))})"


def rows(found: dict[str, Any], ways: list[str], frames: int, figures: list[str]) -> list[list[str]]:
    """Return a row for each way that was measured at a length."""
    names = [(way, f"{way}, {frames} frames") for way in ways]
    return [[way, *(figure(found[name][key]) for key in figures)] for way, name in names if name in found]


def p_rows(found: dict[str, Any], ways: list[str], frames: int) -> list[list[str]]:
    """Return the rank tests' p-values."""
    names = [(way, f"{way}, {frames} frames") for way in ways]
    return [[way, *(f"{found[name][f'p, {kind}']:.2g}" for kind in SEAMS)] for way, name in names if name in found]


def main() -> None:
    content = json.loads((BENCH / "coherence.json").read_text())
    found = content["data"]["table"]
    (DOCS / "quality").mkdir(exist_ok=True)
    for picture in PICTURES:
        shutil.copy(BENCH / f"{picture}.png", DOCS / "quality" / f"{picture.removeprefix('quality_')}.png")
    ways, scopes = [way.name for way in WAYS], [way.name for way in (DEFAULT, *SCOPES)]
    silent = [f"{way}, no caption" for way in ways]
    seam = [f"seam, {kind}" for kind in SEAMS]
    heads = {"seams": ["way", *SEAMS], "motion": ["way", *MOTION], "general": ["way", *GENERAL]}
    parts = {
        "claims": table(
            ["claim", "value", "target", "holds"],
            [
                [
                    name.removeprefix("quality: "),
                    show(float(claim["value"])),
                    claim["target"],
                    "yes" if claim["holds"] else "**no**",
                ]
                for name, claim in content["claims"].items()
            ],
        ),
        "seams_short": table(heads["seams"], rows(found, ways, study.SHORT, seam)),
        "p_short": table(heads["seams"], p_rows(found, ways, study.SHORT)),
        "motion_short": table(heads["motion"], rows(found, ways, study.SHORT, list(MOTION))),
        "motion_middle": table(heads["motion"], rows(found, ways, study.MIDDLE, list(MOTION))),
        "motion_long": table(heads["motion"], rows(found, ways, study.LONG, list(MOTION))),
        "seams_long": table(
            ["way", "frames", *SEAMS, *(f"p, {kind}" for kind in SEAMS)],
            [
                [way, str(frames), *found_seams, *ps]
                for frames in (study.MIDDLE, study.LONG)
                for (way, *found_seams), (_, *ps) in zip(rows(found, ways, frames, seam), p_rows(found, ways, frames))
            ],
        ),
        "general": table(heads["general"], rows(found, ways, study.SHORT, list(GENERAL))),
        "silent_middle": table(["way", *SILENT], rows(found, silent, study.MIDDLE, list(SILENT))),
        "silent_long": table(["way", *SILENT], rows(found, silent, study.LONG, list(SILENT))),
        "scopes": table(heads["motion"], rows(found, scopes, study.MIDDLE, list(MOTION))),
        "switch": table(
            ["figure", "value"],
            [[key, figure(found[f"prompt switch, {study.SHORT} frames"][key])] for key in SWITCHED],
        ),
    }
    page = (DOCS / "quality.template.md").read_text()
    said = {
        "date": content["date"],
        "machine": content["machine"],
        "minutes": show(content["seconds"] / 60),
        "steps": str(content["data"]["steps"]),
    }
    at = {
        f"{name}: {key}": figure(value)
        for name, line in found.items()
        for key, value in line.items()
        if isinstance(value, list)
    }
    (DOCS / "quality.md").write_text(page.format(**said, **parts, at=at))


if __name__ == "__main__":
    main()
