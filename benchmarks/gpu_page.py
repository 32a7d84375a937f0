"""Write docs/gpu.md from what `make bench-gpu` left: `python -m benchmarks.gpu_page`. Its table is never typed."""

import json

from benchmarks.performance_page import BENCH, DOCS, show, table

COLUMNS = {"seconds": "seconds", "TFLOP/s": "TFLOP/s", "peak_GB": "memory beside what was there, GB", "GB/s": "GB/s"}


def page(found: dict) -> str:
    """Return the page of what one run found."""
    rows = [[name, *(show(row.get(key, "")) for key in COLUMNS)] for name, row in found["rows"].items()]
    template = (DOCS / "gpu.template.md").read_text()
    return template.format(**found["machine"], seconds=found["seconds"], rows=table(["", *COLUMNS.values()], rows))


def main() -> None:
    (DOCS / "gpu.md").write_text(page(json.loads((BENCH / "gpu.json").read_text())))


if __name__ == "__main__":
    main()
