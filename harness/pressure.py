"""A real ComfyUI under pressure: many runs, cancelled at random moments. Is every later run right, and does anything grow?"""

import copy
import json
import os
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from harness.comfyui import Server
from harness.places import ROOT

SETTLED = 10  # runs after which a server has loaded all that it keeps
SEED = 7


@dataclass
class Counts:
    """What a server holds."""

    memory: int  # bytes, resident
    descriptors: int
    blocks: int  # shared blocks that are mapped
    threads: int
    ranks: int


@dataclass
class Runs:
    """What came of many runs."""

    finished: int = 0
    cancelled: int = 0
    wrong: int = 0
    counts: list[Counts] = field(default_factory=list)  # after each run

    def drift(self) -> float:
        """Return by what share the server's memory grew: the median of the last runs over that of the first settled ones."""
        few = max(3, len(self.counts) // 10)
        early, late = self.counts[SETTLED : SETTLED + few], self.counts[-few:]
        return float(np.median([c.memory for c in late]) / np.median([c.memory for c in early])) - 1

    def growth(self, name: str) -> int:
        """Return by how many a count grew since the server had settled."""
        return getattr(self.counts[-1], name) - max(getattr(c, name) for c in self.counts[: SETTLED + 1])


def prompt(seed: int, *, steps: int = 3, frames: int = 12) -> dict:
    """Return the shipped workflow of all parts, cut short, saved without loss."""
    graph = json.loads((ROOT / "workflows" / "api" / "prompt_timeline.json").read_text())
    graph["sampler"]["inputs"].update(seed=seed, steps=steps, frames=frames)
    graph["timeline"]["inputs"]["timeline"] = "0: a red circle orbiting clockwise on a gray background"
    graph["ranks"]["inputs"].update(devices="cpu,cpu")
    lossless = {"filename_prefix": "pressure", "fps": 8.0, "lossless": True, "quality": 90, "method": "default"}
    graph["save"] = {
        "class_type": "SaveAnimatedWEBP",
        "inputs": {"images": copy.copy(graph["video"]["inputs"]["images"]), **lossless},
    }
    del graph["video"]
    return graph


def newest(server: Server) -> np.ndarray:
    """Return the frames that were saved last, (F, H, W, 3) uint8."""
    file = max((server.base / "output").glob("pressure_*.webp"), key=lambda path: path.stat().st_mtime_ns)
    with Image.open(file) as picture:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)])


def count(server: Server) -> Counts:
    """Return what a server holds now."""
    process = Path(f"/proc/{server.process.pid}")
    return Counts(
        memory=server.memory(),
        descriptors=len(os.listdir(process / "fd")),
        blocks=(process / "maps").read_text().count("memfd:video-infinity"),
        threads=len(os.listdir(process / "task")),
        ranks=len(server.ranks()),
    )


def run(server: Server, runs: int, *, longest_wait: float = 3.0) -> Runs:
    """Make `runs` runs, half of them cancelled at a random moment; every other one is compared with the first.

    A cancel comes after up to `longest_wait` seconds: in any phase of a run, or after its end.
    """
    chance, came = random.Random(SEED), Runs()
    assert server.run(prompt(0)).end == "execution_success"
    expected = newest(server)
    for number in range(runs):
        cancels = number % 2 == 0
        timer = threading.Timer(chance.uniform(0, longest_wait), server.post, ("/interrupt", {}))
        if cancels:
            timer.start()
        # Another seed each time, or ComfyUI would give out what it kept; the one that is compared comes back.
        seen = server.run(prompt(1 + number, steps=40, frames=48) if cancels else refreshed(number))
        timer.cancel()
        timer.join() if cancels else None
        came.finished += seen.end == "execution_success"
        came.cancelled += seen.end == "execution_interrupted"
        came.wrong += seen.end == "execution_error"
        if not cancels:
            came.wrong += seen.end != "execution_success" or newest(server).tolist() != expected.tolist()
        came.counts.append(count(server))
    return came


def refreshed(number: int) -> dict:
    """Return the first prompt under another cache key, so that it is made again: its negative prompt has more spaces."""
    graph = prompt(0)
    graph["timeline"]["inputs"]["negative"] = " " * (number + 1)
    return graph
