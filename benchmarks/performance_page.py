"""Write docs/performance.md from what `make bench` left: `python -m benchmarks.performance_page`. Its tables are never typed."""

import json
import shutil
from pathlib import Path

from benchmarks.__main__ import NAMES

BENCH, DOCS = Path("bench"), Path("docs")
TEMPLATE = DOCS / "performance.template.md"
PICTURES = ("profile", "compare", "scaling", "model_check", "attention")


def read(name: str) -> dict:
    """Return what one benchmark left."""
    return json.loads((BENCH / f"{name}.json").read_text())


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def show(value: object) -> str:
    """Return a number in three digits, anything else as it is."""
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:,.0f}"
        if isinstance(value, float)
        else str(value)
    )


def claims() -> str:
    """Return the table of claims."""
    rows = []
    for name in NAMES:
        for claim, result in read(name)["claims"].items():
            rows.append(
                [
                    claim,
                    show(result["value"]),
                    result["target"],
                    "yes" if result["holds"] else "**no**",
                    f"`{read(name)['command']}`",
                ]
            )
    return table(["claim", "value", "target", "holds", "command"], rows)


def details() -> str:
    """Return what the claims came from."""
    rows = []
    for name in NAMES:
        for claim, result in read(name)["claims"].items():
            rows += [[claim, key, show(value)] for key, value in result["details"].items()]
    return table(["claim", "measured", "value"], rows)


def comparison() -> str:
    """Return the comparison's table."""
    rows = []
    for way, row in read("compare")["data"]["rows"].items():
        longest = list(row["seconds a frame"])[-1]
        cells = [show(row["seconds a frame"][longest]), show(row["peak MB"][longest]), f"{row['largest T in 8 GB']:,}"]
        rows.append([way, *cells])
    return table(["way", f"seconds a frame at {longest} frames", f"peak MB at {longest} frames", "longest video in 8 GB"], rows)


def options() -> str:
    """Return what the options that change the video bring and cost."""
    rows = read("options")["data"]["rows"]
    columns = list(rows["exact"])
    return table(
        ["option", *columns], [[way, *(show(row[c]) if c in row else "" for c in columns)] for way, row in rows.items()]
    )


def phases() -> str:
    """Return what a call is spent on."""
    profiles = read("efficiency")["data"]["profiles"]
    parts = list(profiles["exact"])
    return table(["seconds a call", *profiles], [[part, *(show(profiles[way][part]) for way in profiles)] for part in parts])


def model() -> str:
    """Return what the cost model says of VideoCrafter2."""
    steps = read("scaling")["data"]["steps"]
    rows = []
    for link, by_length in steps.items():
        for frames, by_ranks in by_length.items():
            rows.append([link, f"{int(frames):,}", *(show(by_ranks[ranks]) for ranks in ("1", "8", "64", "512"))])
    return table(["link", "frames", "1 rank", "8 ranks", "64 ranks", "512 ranks"], rows)


def memory() -> str:
    """Return bytes a frame, measured and by the formula."""
    rows = read("memory")["data"]["rows"]
    return table(
        ["", "measured, MB a frame", "formula"],
        [[n, show(r["measured"] / 1e6), show(r["formula"] / 1e6)] for n, r in rows.items()],
    )


def wan_plan() -> str:
    """Return what ranks of a Wan video send, a column a number of ranks."""
    rows = read("wan_plan")["data"]["rows"]
    lines = list(next(iter(rows.values())))
    return table(
        ["", *(f"{ranks} ranks" for ranks in rows)], [[line, *(show(row[line]) for row in rows.values())] for line in lines]
    )


def rows_of(name: str) -> str:
    """Return the rows that a benchmark left, of which each has the same columns."""
    rows = read(name)["data"]["rows"]
    columns = list(next(iter(rows.values())))
    return table(["", *columns], [[way, *(show(row[column]) for column in columns)] for way, row in rows.items()])


def wan_lvsa() -> str:
    """Return LVSA's runs beside the cost model's."""
    rows = read("wan_scaling")["data"]["lvsa"]
    return table(
        ["Wan 2.1 1.3B, one A100, 50 steps", "published, s", "by the model, s", "apart"],
        [[n, f"{r['published']:,}", show(r["predicted"]), f"{100 * r['apart']:+.0f} %"] for n, r in rows.items()],
    )


def wan_by_ranks() -> str:
    """Return LVSA's longest video with our scopes on several GPUs, in words."""
    seconds = read("wan_scaling")["data"]["by_ranks"]
    return ", ".join(f"{show(value)} s on {ranks}" for ranks, value in seconds.items())


def wan_steps() -> str:
    """Return seconds a step of Wan, a column a number of ranks; a dash where ranks have no room, or are more than latents."""
    rows = read("wan_scaling")["data"]["steps"]
    head = ["GPU", "link", "net", "size", "frames", *(f"{ranks} GPU{'s' * (ranks != '1')}" for ranks in rows[0]["seconds"])]
    cells = [[row[key] for key in ("GPU", "link", "net", "size")] + [f"{row['frames']:,}"] for row in rows]
    return table(head, [[*named, *map(_dashed, row["seconds"].values())] for named, row in zip(cells, rows)])


def _dashed(value: float | None) -> str:
    return "-" if value is None else show(value)


def wan_parts() -> str:
    """Return what a call of Wan is spent on."""
    profiles = read("wan_profile")["data"]["profiles"]
    parts = list(next(iter(profiles.values())))
    return table(["seconds a call", *profiles], [[part, *(show(profiles[way][part]) for way in profiles)] for part in parts])


def wan_memory() -> str:
    """Return gigabytes of calls and decodes of Wan, measured and by the formula."""
    rows = read("wan_memory")["data"]["rows"]
    rows |= {f"the standard bench, blocks that wait, {n}": row for n, row in read("wan_offload")["data"]["rows"].items()}
    return table(
        ["", "lives, GB", "formula"], [[n, show(r["measured"] / 1e9), show(r["formula"] / 1e9)] for n, r in rows.items()]
    )


PARTS = {
    "claims": claims,
    "details": details,
    "comparison": comparison,
    "options": options,
    "phases": phases,
    "model": model,
    "memory": memory,
    "wan_plan": wan_plan,
    "wan_memory": wan_memory,
    "wan_parts": wan_parts,
    "wan_lvsa": wan_lvsa,
    "wan_by_ranks": wan_by_ranks,
    "wan_steps": wan_steps,
}
ROWS = ("wan_hiding", "wan_compare")  # shown as they were left


def main() -> None:
    folder = DOCS / "performance"
    folder.mkdir(exist_ok=True)
    for picture in PICTURES:
        shutil.copy(BENCH / f"{picture}.png", folder / f"{picture}.png")
    filled = {name: make() for name, make in PARTS.items()} | {name: rows_of(name) for name in ROWS}
    efficiency = read("efficiency")
    page = TEMPLATE.read_text().format(date=efficiency["date"], machine=efficiency["machine"], **filled)
    (DOCS / "performance.md").write_text(page)


if __name__ == "__main__":
    main()
