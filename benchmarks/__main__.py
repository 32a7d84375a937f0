"""Run all benchmarks, one process each so that none inherits another's memory, and sum up: `python -m benchmarks`."""

import json
import subprocess
import sys

from benchmarks import plots
from benchmarks.claims import FOLDER

ARGUMENTS = {"coherence_quick": ("coherence", "--quick")}  # of those that are a part of something larger
NAMES = (
    "efficiency",
    "one_rank",
    "flat",
    "attention",
    "exchanges",
    "memory",
    "wan_plan",
    "wan_memory",
    "wan_offload",
    "wan_hiding",
    "wan_compare",
    "wan_decode",
    "wan_scaling",
    "wan_profile",
    "start",
    "hand_over",
    "options",
    "scaling",
    "compare",
    "coherence_quick",
)


def main() -> int:
    for name in NAMES:
        print(f"-- {name}", flush=True)
        module, *arguments = ARGUMENTS.get(name, (name,))
        ended = subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *arguments])
        if ended.returncode:
            print(f"{name} failed: see above", flush=True)
            return 1
    summary = {}
    for name in NAMES:
        for claim, result in json.loads((FOLDER / f"{name}.json").read_text())["claims"].items():
            summary[claim] = {key: result[key] for key in ("value", "target", "holds")}
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    plots.main()
    print(f"{sum(result['holds'] for result in summary.values())} of {len(summary)} claims hold: {FOLDER}/summary.json")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
