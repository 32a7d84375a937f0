"""Write docs/reliability.md from what `make faults` left: `python -m benchmarks.reliability_page`. Its figures are never typed."""

import json
from pathlib import Path

from benchmarks.performance_page import show, table

BENCH, DOCS = Path("bench"), Path("docs")


def main() -> None:
    content = json.loads((BENCH / "fault_details.json").read_text())
    claims, details = [], []
    for name, claim in content["claims"].items():
        claims.append([name, show(claim["value"]), claim["target"], "yes" if claim["holds"] else "**no**"])
        details += [[name, key, show(value)] for key, value in claim["details"].items()]
    page = (DOCS / "reliability.template.md").read_text()
    filled = page.format(
        date=content["date"],
        claims=table(["claim", "value", "target", "holds"], claims),
        details=table(["claim", "of what", "value"], details),
    )
    (DOCS / "reliability.md").write_text(filled)


if __name__ == "__main__":
    main()
