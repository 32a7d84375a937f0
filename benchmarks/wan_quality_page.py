"""Write docs/quality_wan.md from what `make quality` left: `python -m benchmarks.wan_quality_page`. Its tables are never typed."""

import json
import shutil
from typing import Any

from benchmarks.performance_page import show, table
from benchmarks.quality_page import BENCH, DOCS, claim_lines, figure
from benchmarks.wan_coherence import SEAMS
from benchmarks.wan_images import GIVEN, WINDOWS, average
from benchmarks.wan_study import LONG, LONGEST, MIDDLE, TRAINED, TWICE
from benchmarks.wan_ways import DEFAULT, MAIN, SPLITS

PICTURES = ("ways", "budgets", "far", *(f"sheet_{latents // TRAINED}x" for latents in (MIDDLE, LONG, LONGEST)))
MOVING = ["seen", "as captioned", "pace", "speed", "unsteady", "teleports", "jitter"]
HOLDING = ["identity", "kept to the end", "repeats", "return", "period"]
CROSSING = [*(f"seam, {kind}" for kind in SEAMS), *(f"p, {kind}" for kind in SEAMS)]
IMAGES = ("shown", "seam position", "seam picture", "return", "drift", "unclear")
LENGTHS = tuple(latents // TRAINED for latents in (TRAINED, TWICE, MIDDLE, LONG, LONGEST))
Found = dict[str, dict[str, Any]]


def rows(found: Found, ways: list[str], lengths: tuple[int, ...], figures: list[str]) -> str:
    """Return a table with a row for each way that was measured at each length, in times the trained one."""
    names = [(way, times, f"{way}, {times}x") for times in lengths for way in ways]
    lines = [
        [way, f"{times}x", *(figure(found[name][key]) for key in ("videos", *figures))]
        for way, times, name in names
        if name in found
    ]
    return table(["way", "length", "videos", *figures], lines)


def image_rows(content: dict[str, Any]) -> str:
    """Return a table of what was given and what became of it; a seam's two numbers are the ratio and its p."""
    lines = []
    for name in (*GIVEN, WINDOWS):
        each = [{part: _pair(value) for part, value in row.items()} for row in content["rows"][name]]
        means = {part: average([row[part] for row in each]) for part in IMAGES} if each else {}
        lines.append([name, str(len(each)), *(_said(means.get(part)) for part in IMAGES)])
    return table(["given", "videos", *IMAGES], lines)


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _said(value: Any) -> str:
    if value is None:
        return "-"
    return f"{show(float(value[0]))} (p {show(float(value[1]))})" if isinstance(value, tuple) else show(float(value))


def write(content: dict[str, Any], images: dict[str, Any], template: str) -> str:
    """Return the page."""
    found: Found = content["data"]["table"]
    ways = [way.name for way in MAIN]
    splits = [way.name for way in (DEFAULT, *SPLITS)]
    at = {f"{name}: {key}": figure(value) for name, line in found.items() for key, value in line.items() if key != "far"}
    return template.format(
        date=content["date"],
        machine=content["machine"],
        minutes=show(content["seconds"] / 60),
        steps=content["data"]["steps"],
        claims=claim_lines(content["claims"]),
        moving=rows(found, ways, LENGTHS, MOVING),
        holding=rows(found, ways, LENGTHS, HOLDING),
        seams=rows(found, ways, LENGTHS[1:], CROSSING),
        budgets=rows(found, splits, (LONG // TRAINED,), [*MOVING, *HOLDING[:2]]),
        images=image_rows(images),
        image_shares={name: f"{share:.0%}" for name, share in images["shares"].items()},
        at=at,
    )


def main() -> None:
    content, images = (json.loads((BENCH / f"{name}.json").read_text()) for name in ("wan_coherence", "wan_images"))
    folder = DOCS / "quality_wan"
    folder.mkdir(exist_ok=True)
    for picture in PICTURES:
        shutil.copy(BENCH / f"wan_quality_{picture}.png", folder / f"{picture}.png")
    page = write(content, images, (DOCS / "quality_wan.template.md").read_text())
    (DOCS / "quality_wan.md").write_text(page)


if __name__ == "__main__":
    main()
