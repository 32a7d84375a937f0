"""Write docs/performance.md from what `make bench` left: `python -m benchmarks.performance_page`. Its tables are never typed."""

import json
import shutil
from pathlib import Path

from benchmarks.__main__ import NAMES

BENCH, DOCS = Path("bench"), Path("docs")
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


def wan_memory() -> str:
    """Return gigabytes of calls and decodes of Wan, measured and by the formula."""
    rows = read("wan_memory")["data"]["rows"]
    return table(
        ["", "lives, GB", "formula"], [[n, show(r["measured"] / 1e9), show(r["formula"] / 1e9)] for n, r in rows.items()]
    )


def wan_hiding() -> str:
    """Return what of a Wan transformer's exchanges hides."""
    rows = read("wan_hiding")["data"]["rows"]
    columns = list(next(iter(rows.values())))
    return table(["", *columns], [[way, *(show(row[column]) for column in columns)] for way, row in rows.items()])


def main() -> None:
    folder = DOCS / "performance"
    folder.mkdir(exist_ok=True)
    for picture in PICTURES:
        shutil.copy(BENCH / f"{picture}.png", folder / f"{picture}.png")
    template = (DOCS / "performance.template.md").read_text()
    parts = {"claims": claims, "details": details, "comparison": comparison, "options": options}
    parts |= {"phases": phases, "model": model, "memory": memory}
    parts |= {"wan_plan": wan_plan, "wan_memory": wan_memory, "wan_hiding": wan_hiding}
    filled = {name: make() for name, make in parts.items()}
    efficiency = read("efficiency")
    page = template.format(date=efficiency["date"], machine=efficiency["machine"], **filled)
    (DOCS / "performance.md").write_text(page)


if __name__ == "__main__":
    main()
