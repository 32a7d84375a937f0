"""Make many videos in many ways with the small Wan, and read each: the raw results that docs/quality_wan.md sums up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from typing import Any

import torch

from benchmarks import loop_metrics, shape_metrics, wan_ways
from benchmarks.model_quality import captions
from benchmarks.wan_ways import DEFAULT, DENSE, INDEPENDENT, MAIN, SPLITS, TRAINED, WINDOW_ALONE, WINDOWS, Way
from harness.places import BUNDLED_WAN
from parallel.families import folder
from parallel.models.model import Model
from parallel.sampler import load
from scripts.shapes import Scene

PROCESSES = 2
PARTS = 10  # of a video, in which its likeness to the first frame is read
SHEET = 12  # pictures of a row of a contact sheet
SHORT, TWICE, MIDDLE, LONG, LONGEST = (TRAINED * times for times in (1, 2, 4, 10, 30))
VERY_LONG = (DEFAULT, WINDOW_ALONE, DENSE, WINDOWS)  # at the greatest length


@dataclass(frozen=True)
class Task:
    """One video: a way, a length in latents, and a seed, which also chooses the caption."""

    way: Way
    latents: int
    seed: int

    @property
    def times(self) -> int:
        """How many times as long as the trained length it is."""
        return self.latents // TRAINED


def plan(*, quick: bool) -> list[Task]:
    """Return the tasks of the study, the longest first."""

    def some(ways: Sequence[Way], latents: int, seeds: int) -> list[Task]:
        return [Task(way, latents, seed) for seed in range(seeds) for way in ways]

    if quick:
        return some([DEFAULT, DENSE, INDEPENDENT], MIDDLE, 4) + some([DEFAULT], SHORT, 4)
    return [
        *some(VERY_LONG, LONGEST, 4),
        *some(MAIN, LONG, 8),
        *some(SPLITS, LONG, 6),
        *some(MAIN, MIDDLE, 8),
        *some([DEFAULT, DENSE, WINDOW_ALONE], TWICE, 8),
        *some([DENSE], SHORT, 8),
    ]


@cache
def scenes() -> list[Scene]:
    """Return the scene of each seed."""
    return captions(32)


@cache
def model() -> Model:
    """Return the small Wan, loaded once a process."""
    torch.set_num_threads(1)
    return load.load(folder.inspect(str(BUNDLED_WAN), None), torch.float32)


def run(tasks: list[Task]) -> Iterator[dict[str, Any]]:
    """Yield what each video shows, in no order."""
    with get_context("spawn").Pool(PROCESSES) as pool:
        yield from pool.imap_unordered(measure, tasks)


def measure(task: Task) -> dict[str, Any]:
    """Make a video and return what it shows."""
    job = wan_ways.job_of(task.way, scenes()[task.seed].caption, latents=task.latents, seed=task.seed)
    return read(task, wan_ways.make(model(), job, task.way))


def read(task: Task, frames_THWC: torch.Tensor) -> dict[str, Any]:
    """Return what a video shows, in plain numbers; the first seed's also with pictures."""
    scene, reading = scenes()[task.seed], shape_metrics.read(frames_THWC)
    borders = wan_ways.borders(task.way, task.latents)
    seams = shape_metrics.seams(reading, borders)
    seams["pixels"] = shape_metrics.at_borders(shape_metrics.differences(frames_THWC), borders, reach=1)
    trained = 4 * TRAINED - 3
    result = {
        "way": task.way.name,
        "times": task.times,
        "seed": task.seed,
        "seams": {name: [part.tolist() for part in parts] for name, parts in seams.items()},
        "motion": shape_metrics.motion(reading, scene),
        "identity": shape_metrics.identity(reading),
        "jitter": shape_metrics.jitter(frames_THWC),
        "return": loop_metrics.return_to_first(frames_THWC, borders, trained),
        "far": loop_metrics.likeness_to_first(frames_THWC, PARTS),
        **loop_metrics.self_likeness(frames_THWC, shortest=trained + 8),
    }
    if task.seed == 0:
        chosen = torch.linspace(0, len(frames_THWC) - 1, SHEET).round().long()
        result["pictures"] = (frames_THWC[chosen] * 255).round().to(torch.uint8)
    return result
