"""A claim: one number, what it must be, whether it is. Printed, and left in bench/ for the summary and the plots."""

import json
import operator
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parallel.pool.devices import usable_cores

FOLDER = Path("bench")
SIGNS = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Claim:
    """`value` against a `target` such as `<= 1.05`; `details` are the measurements that it came from."""

    name: str
    value: float
    target: str
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        sign, bound = self.target.split()[:2]
        return SIGNS[sign](self.value, float(bound))


def report(name: str, claims: list[Claim], began: float, *, command: str = "", **data: Any) -> int:
    """Print claims and leave them, with any more data to draw, in bench/NAME.json; return how many do not hold.

    `command` is what was run, if it is not the module of that name.
    """
    for claim in claims:
        print(f"{'holds' if claim.holds else 'MISSED':7}{claim.name}: {claim.value:.4g} (target {claim.target})", flush=True)
        for key, value in claim.details.items():
            print(f"         {key}: {value:.4g}" if isinstance(value, float) else f"         {key}: {value}", flush=True)
    FOLDER.mkdir(exist_ok=True)
    content = {
        "claims": {c.name: {"value": c.value, "target": c.target, "holds": c.holds, "details": c.details} for c in claims},
        "data": data,
        "command": command or f"python -m benchmarks.{name}",
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{usable_cores()} cores, {platform.machine()}, {platform.system()}",
        "seconds": round(time.perf_counter() - began),
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    return sum(not claim.holds for claim in claims)


def take_turns(repeats: int, **ways: Callable[[], Any]) -> dict[str, list[float]]:
    """Time some ways of doing a thing turn by turn, each after one call that is not counted; return their seconds."""
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(over: list[float], under: list[float]) -> float:
    """Return the median of what was timed side by side, one over the other: what slows the machine slows both."""
    return statistics.median(a / b for a, b in zip(over, under))
