"""Does the small Wan keep what a picture shows? `python -m benchmarks.wan_images [--model assets/moving-shapes-wan-images]`

Clips of the trained length that are given their first frame; videos seven times as long, given the same; and as long with more frames
given, beside averaged windows that each begin with the start image, as ComfyUI makes long videos of images. Read back by
benchmarks/tracker.py.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks import averaged_windows
from benchmarks.averaged_windows import STRIDE
from benchmarks.model_quality import captions
from benchmarks.shape_metrics import at_borders, border_p, differences, steps
from benchmarks.tracker import UNCLEAR, track
from harness.places import BUNDLED_WAN_IMAGES
from parallel.job.job import Job, Keyframe, Prompt, checked
from parallel.pool import Pool
from scripts.shapes import PERIOD, Scene, draw_scene, render

SHORT, LONG = 33, 241
FPS = 8
GIVEN = {
    "start": (0,),
    "start and end": (0, LONG - 1),
    "start, middle and end": (0, 120, LONG - 1),
    "every second": tuple(range(0, LONG, FPS)),
}
NEAR = 2.0  # pixels between the places of a shape that is said to be kept
SHOWN = 0.03  # mean absolute error of a frame that shows a picture: twice that of a VAE that blurs edges
WINDOWS = "averaged windows"
BARS = {"first frame kept": 0.95, "identity kept to the end": 0.90}
Row = dict[str, Any]


def drawn(scene: Scene, seed: int) -> Scene:
    """Return a scene of the same kind, of random size, place and phase."""
    kind = (scene.shape, scene.colour, scene.background, scene.motion)
    return draw_scene(kind, torch.Generator().manual_seed(seed))


def pictures_of(scene: Scene, frames: tuple[int, ...]) -> torch.Tensor:
    """Return frames of a scene, float32 (F, 64, 64, 3) in [0, 1]."""
    return render(scene, torch.tensor(frames)).permute(0, 2, 3, 1).contiguous()


def job_of(model: Path, scene: Scene, seed: int, *, frames: int, at: tuple[int, ...], steps: int, guidance: float) -> Job:
    """Return the job of a scene's caption with frames that are given."""
    return checked(
        Job,
        model=str(model),
        prompts=(Prompt(frame=0, text=scene.caption),),
        frames=frames,
        height=64,
        width=64,
        num_inference_steps=steps,
        guidance_scale=guidance,
        seed=seed,
        keyframes=tuple(Keyframe(frame=frame) for frame in at),
    )


def is_kept(frames_FHWC: torch.Tensor, given_1HWC: torch.Tensor, scene: Scene) -> Row:
    """Say whether a clip shows what its first frame was given to show: its shape, its colour, and where it stands at first."""
    shown, there = track(frames_FHWC), track(given_1HWC).centres[0]
    near = bool((shown.centres[0] - there).norm() <= NEAR)
    return {"shape": shown.shape == scene.shape, "colour": shown.colour == scene.colour, "place": near}


def keeps_identity(frames_FHWC: torch.Tensor, scene: Scene) -> Row:
    """Say whether the last period of a video shows the shape, colour and background that its start image shows."""
    last = track(frames_FHWC[-PERIOD:])
    return {part: getattr(last, part) == getattr(scene, part) for part in ("shape", "colour", "background")}


def read_long(frames_FHWC: torch.Tensor, given_FHWC: torch.Tensor, at: tuple[int, ...]) -> Row:
    """Return what a long video does where frames are given, and where windows begin.

    `shown`: share of the frames given that it shows. `seam`: the step of the shape, and the change of the picture, at keyframes
    after the first, over those elsewhere, with a p-value each. `return`: how much nearer than usual to its first frame a video is
    where windows begin, 1 if it is not. `drift`: how far the background has gone at the end, 0 to 255. `unclear`: share of periods
    in which no shape can be told.
    """
    error = (frames_FHWC[list(at)] - given_FHWC).abs().mean((1, 2, 3))
    whole = track(frames_FHWC)
    borders = tuple(frame for frame in at if 0 < frame < len(frames_FHWC) - 1)
    far = (frames_FHWC - frames_FHWC[0]).abs().mean((1, 2, 3))[PERIOD:]
    starts = torch.arange(4 * STRIDE, len(frames_FHWC), 4 * STRIDE) - PERIOD
    paper = torch.stack([frames[:, :2].mean((0, 1, 2)) for frames in (frames_FHWC[:PERIOD], frames_FHWC[-PERIOD:])])
    periods = [track(frames_FHWC[start : start + PERIOD]) for start in range(0, len(frames_FHWC) - PERIOD + 1, PERIOD)]
    return {
        "shown": (error <= SHOWN).float().mean().item(),
        "seam position": _seam(steps(whole.centres), borders),
        "seam picture": _seam(differences(frames_FHWC), borders),
        "return": (far[starts].mean() / far.median()).item(),
        "drift": 255 * (paper[1] - paper[0]).abs().mean().item(),
        "unclear": mean(float(UNCLEAR in (each.shape, each.colour)) for each in periods),
    }


def _seam(values, borders: tuple[int, ...]) -> tuple[float, float] | None:
    """Return the ratio of what is at borders to what is elsewhere, and how likely that is by chance; None without borders."""
    at, inside = at_borders(values, borders, reach=1)
    return (float(at.mean() / inside.mean()), border_p(at, inside)) if len(at) else None


def share(rows: list[Row]) -> float:
    """Return the share of rows in which everything holds."""
    return mean(float(all(row.values())) for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=BUNDLED_WAN_IMAGES)
    parser.add_argument("--count", type=int, default=32, help="clips of the trained length")
    parser.add_argument("--long", type=int, default=20, help="videos of 241 frames with one start image")
    parser.add_argument("--keyframes", type=int, default=4, help="videos of 241 frames with more given, and as many by windows")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--out", type=Path, default=Path("bench/wan_images.json"))
    parser.add_argument("--save", type=Path, help="a folder for the long videos with keyframes, as .safetensors")
    args = parser.parse_args()
    began, settings = time.time(), {"steps": args.steps, "guidance": args.guidance}
    scenes = [drawn(scene, seed) for seed, scene in enumerate(captions(max(args.count, args.long, args.keyframes)))]
    made = partial(make, model=args.model, settings=settings)
    with Pool(("cpu", "cpu"), threads=1) as pool:
        clips = [made(pool, scene, seed, SHORT, (0,)) for seed, scene in enumerate(scenes[: args.count])]
        short = [is_kept(*clip, scene) for clip, scene in zip(clips, scenes)]
        long = [keeps_identity(made(pool, scene, seed, LONG, (0,))[0], scene) for seed, scene in enumerate(scenes[: args.long])]
        rows: dict[str, list[Row]] = {name: [] for name in (*GIVEN, WINDOWS)}
        for seed, (name, at) in product(range(args.keyframes), GIVEN.items()):
            frames, given = made(pool, scenes[seed], seed, LONG, at)
            rows[name].append(read_long(frames, given, at))
            keep(args.save, f"{name} {seed}", frames)
    for seed, scene in enumerate(scenes[: args.keyframes]):
        given = pictures_of(scene, (0,))
        frames = averaged_windows.make(args.model, scene.caption, image_HWC=given[0], frames=LONG, seed=seed, **settings)
        rows[WINDOWS].append(read_long(frames, given, (0,)))
        keep(args.save, f"{WINDOWS} {seed}", frames)
    shares = {"first frame kept": share(short), "identity kept to the end": share(long)}
    said = {"shares": shares, "bars": BARS, "of the first frame": parts_of(short), "at the end": parts_of(long), "rows": rows}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({**said, "settings": settings, "seconds": round(time.time() - began)}, indent=2) + "\n")
    say(json.dumps({name: part for name, part in said.items() if name != "rows"}, indent=2))
    for name, each in rows.items():
        say(f"{name}: { ({part: average([row[part] for row in each]) for part in each[0]} if each else 'none') }")
    return int(any(shares[name] < bar for name, bar in BARS.items()))


def make(
    pool: Pool, scene: Scene, seed: int, frames: int, at: tuple[int, ...], *, model: Path, settings: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a video of a scene some frames of which are given, and these."""
    given = pictures_of(scene, at)
    job = job_of(model, scene, seed, frames=frames, at=at, **settings)
    return pool.run(job, keyframes=given).frames.clone(), given


def parts_of(rows: list[Row]) -> dict[str, float]:
    """Return the share of rows in which each part holds."""
    return {part: mean(float(row[part]) for row in rows) for part in rows[0]} if rows else {}


def average(values: list) -> Any:
    """Return the mean of numbers, or of each of pairs, to three places; None of nothing."""
    if values[0] is None:
        return None
    if isinstance(values[0], tuple):
        return tuple(average(list(each)) for each in zip(*values))
    return round(mean(values), 3)


def keep(folder: Path | None, name: str, frames_FHWC: torch.Tensor) -> None:
    """Store a video, if a folder is given."""
    if folder:
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({"frames": frames_FHWC.contiguous()}, folder / f"{name}.safetensors")


say: Callable[[str], None] = print

if __name__ == "__main__":
    raise SystemExit(main())
