"""Make many videos in many ways with the bundled model, and read each: the raw results that docs/quality.md sums up."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from typing import Any

import torch

from benchmarks import ablations, shape_metrics, two_ranks, video_metrics
from benchmarks.ablations import CLIP, GLOBAL, LOCAL, OVERLAP, SCOPES, WAYS, Way
from benchmarks.model_quality import captions
from harness.places import BUNDLED
from parallel.comm.group import Group
from parallel.families import folder
from parallel.job.job import Job, Prompt, Scope, checked
from parallel.sampler import load
from parallel.sampler.decode import write_frames
from scripts.shapes import COLOURS, Scene

STEPS, GUIDANCE = 8, 3.0
SHORT, MIDDLE, LONG = 64, 240, 960
LONG_VIDEOS, SHORT_VIDEOS, FEW, PAIR = 20, 5, 3, 2
MORE = 3  # short videos more of the two ways that a claim is made of
AT_MIDDLE = (
    "default",
    "independent clips",
    "local scope off",
    "global scope off",
    "overlapping windows",
    "whole-video attention",
)
SILENT = ("default", "global scope off", "paper's phase biases", "independent clips", "local 8, global 8")
SILENT_SEEDS = range(8, 16)  # not those by which the default was chosen
SWITCHING = ("default", "global scope off")  # ways whose prompt is switched in some videos, beside the same without
SEAMS, ELSEWHERE = ("position", "velocity", "pixels", "latents"), "elsewhere"  # the last: position, where no border is
PROCESSES = 2
SHEET = range(10, 22)  # the frames of a contact sheet: six before the first border, six after
ALONE = Group(0, 1, torch.device("cpu"))


@dataclass(frozen=True)
class Task:
    """One video: a way, a length, a seed, which also chooses the caption.

    With `switch` its colour is another one from the middle on; `silent` has no caption (and so no guidance), so that nothing but
    the video itself says what is in it.
    """

    way: Way
    frames: int
    seed: int
    switch: bool = False
    silent: bool = False

    @property
    def name(self) -> str:
        """What it is called in tables: all seeds of one kind alike."""
        return f"{self.way.name}{', no caption' * self.silent}{', prompt switch' * self.switch}, {self.frames} frames"

    @property
    def borders(self) -> tuple[int, ...]:
        """The frames that clips, or windows, begin with; where ours would be cut if each rank had CLIP frames."""
        every = CLIP - OVERLAP if self.way.by == "windows" else CLIP
        return tuple(range(every, self.frames - every + 1, every))


def plan(quick: bool) -> list[Task]:
    """Return the tasks of the study, the longest first; `quick` is a tenth of it or less. `measure` adds a switch's plain twin."""
    ways = {way.name: way for way in (*WAYS, *SCOPES)}

    def some(names: Iterable[str], frames: int, seeds: range, **kind: bool) -> list[Task]:
        return [Task(ways[name], frames, seed, **kind) for seed in seeds for name in names]

    if quick:
        return some(["default"], MIDDLE, range(1)) + some(["default", "independent clips", "global scope off"], SHORT, range(8))
    return [
        *some(["default"], LONG, range(LONG_VIDEOS)),
        *some(["global scope off"], LONG, range(PAIR)),
        *some(["default", "global scope off"], LONG, range(1), silent=True),
        *some(AT_MIDDLE, MIDDLE, range(FEW)),
        *some([way.name for way in SCOPES], MIDDLE, range(FEW)),
        *some(SILENT, MIDDLE, SILENT_SEEDS, silent=True),
        *some(SWITCHING, SHORT, range(SHORT_VIDEOS), switch=True),
        *some([way.name for way in WAYS if way.name not in SWITCHING], SHORT, range(SHORT_VIDEOS)),
        *some(["default", "independent clips"], SHORT, range(SHORT_VIDEOS, SHORT_VIDEOS + MORE)),
    ]


@cache
def scenes() -> list[Scene]:
    """Return the scene of each seed."""
    return captions(32)


@cache
def model() -> load.Model:
    """Return the bundled model, loaded once a process."""
    torch.set_num_threads(1)
    return load.load(folder.inspect(str(BUNDLED), None), torch.float32)


def other(scene: Scene) -> Scene:
    """Return the scene in the next colour."""
    colours = list(COLOURS)
    colour = colours[(colours.index(scene.colour) + 1) % len(colours)]
    return Scene(scene.shape, colour, scene.background, scene.motion)


def job(task: Task) -> Job:
    """Return a task's job, before its way changes it."""
    scene = scenes()[task.seed]
    prompts = [Prompt(frame=0, text="" if task.silent else scene.caption)]
    if task.switch:
        prompts.append(Prompt(frame=task.frames // 2, text=other(scene).caption))
    return checked(
        Job,
        model=str(BUNDLED),
        prompts=tuple(prompts),
        frames=task.frames,
        height=64,
        width=64,
        num_inference_steps=STEPS,
        guidance_scale=1.0 if task.silent else GUIDANCE,
        seed=task.seed,
        scope=Scope(local_context=LOCAL, global_frames=GLOBAL),
    )


def run(tasks: list[Task]) -> Iterator[dict[str, Any]]:
    """Yield what each video shows, in no order: those that need ranks on one rank a clip, the others two at a time."""
    alone = [task for task in tasks if not task.way.ranks]
    with get_context("spawn").Pool(PROCESSES) as pool:
        for rows in pool.imap_unordered(measure, alone):
            yield from rows
    together = [task for task in tasks if task.way.ranks]
    sizes = {task.frames // CLIP for task in together}
    for size in sizes:
        some = [task for task in together if task.frames // CLIP == size]
        parts = two_ranks.run(make_all, some, size=size)
        for number, task in enumerate(some):
            latents = torch.cat([rank[number] for rank in parts], dim=1)
            yield read(task, latents, pixels(latents))


def make_all(group: Group, tasks: list[Task]) -> list[torch.Tensor]:
    """Return this rank's clip of each task's latents."""
    return [ablations.make(model(), job(task), task.way, group) for task in tasks]


def measure(task: Task) -> list[dict[str, Any]]:
    """Make a video on one rank and return what it shows; with a switch also what it shows without, a row each."""
    latents = ablations.make(model(), job(task), task.way, ALONE)
    frames = pixels(latents)
    row = read(task, latents, frames)
    if not task.switch:
        return [row]
    plain = replace(task, switch=False)
    latents = ablations.make(model(), job(plain), plain.way, ALONE)
    same = pixels(latents)
    return [row | arrival(frames, same, other(scenes()[task.seed])), read(plain, latents, same)]


def pixels(latents_CTHW: torch.Tensor) -> torch.Tensor:
    """Return a video's frames, (T, H, W, 3) in [0, 1]."""
    frames_THWC = torch.empty(latents_CTHW.shape[1], 64, 64, 3)
    for frames, pictures in model().decode(latents_CTHW[None], 0, [range(len(frames_THWC))]):
        write_frames(pictures, frames_THWC, frames)
    return frames_THWC


def read(task: Task, latents_CTHW: torch.Tensor, frames: torch.Tensor) -> dict[str, Any]:
    """Return what a video shows, in plain numbers; the first seed's also with pictures."""
    scene, reading = scenes()[task.seed], shape_metrics.read(frames)
    differences = partial(shape_metrics.at_borders, borders=task.borders, reach=1)
    seams = shape_metrics.seams(reading, task.borders)
    elsewhere = tuple(border + CLIP // 2 for border in task.borders if border + CLIP // 2 < task.frames)
    seams[ELSEWHERE] = shape_metrics.seams(reading, elsewhere)["position"]
    seams["pixels"] = differences(shape_metrics.differences(frames))
    seams["latents"] = differences(shape_metrics.differences(latents_CTHW.movedim(1, 0)))
    result = {
        "name": task.name,
        "way": task.way.name,
        "frames": task.frames,
        "seed": task.seed,
        "switch": task.switch,
        "silent": task.silent,
        "seams": {name: [part.tolist() for part in parts] for name, parts in seams.items()},
        "motion": shape_metrics.motion(reading, scene),
        "identity": shape_metrics.identity(reading),
        "jitter": shape_metrics.jitter(frames),
        "general": video_metrics.score(frames, task.borders, strides=(CLIP,)) if task.frames == SHORT else {},
    }
    if task.seed == (SILENT_SEEDS[0] if task.silent and task.frames == MIDDLE else 0):
        chosen = (
            SHEET
            if task.frames == SHORT and not task.switch
            else torch.linspace(0, task.frames - 1, len(SHEET)).round().long().tolist()
        )
        result["pictures"] = (frames[list(chosen)] * 255).round().to(torch.uint8)
    return result


def arrival(frames: torch.Tensor, same: torch.Tensor, scene: Scene) -> dict[str, float]:
    """Return when a switched prompt's scene is seen, and how far frames are from `same`, the video without the switch."""
    switch = len(frames) // 2
    apart = 255 * (frames - same).flatten(1).abs().mean(1)
    return {
        "arrival": shape_metrics.arrival(frames, switch, scene),
        "changed far before": float(apart[: switch // 2].mean()),
        "changed just before": float(apart[switch // 2 : switch].mean()),
        "changed after": float(apart[switch:].mean()),
    }
