"""Does a bundled model show what a caption says? `python -m benchmarks.model_quality [--model assets/moving-shapes-wan]`

32 captions by seed, clips as long as the model was trained on, 20 steps, made by diffusers' stock pipeline and read back by
benchmarks/tracker.py.
"""

import argparse
import json
import platform
import time
import warnings
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, WanImageToVideoPipeline, WanPipeline

from benchmarks.tracker import track
from parallel.pool.devices import usable_cores
from scripts.shapes import Scene, all_kinds, draw_scene, render

BARS = {"background": 0.95, "colour": 0.90, "motion": 0.85, "shape": 0.70}


def captions(count: int) -> list[Scene]:
    """Return scenes of `count` different kinds, chosen by a fixed seed."""
    kinds = all_kinds()
    order = torch.randperm(len(kinds), generator=torch.Generator().manual_seed(0)).tolist()
    return [Scene(*kinds[place]) for place in order[:count]]


def make_clip(pipeline: DiffusionPipeline, scene: Scene, seed: int, guidance: float, steps: int) -> torch.Tensor:
    """Return one clip, (F, 64, 64, 3) in [0, 1], that begins with a scene's picture if the pipeline is one for images."""
    generator = torch.Generator().manual_seed(seed)
    wan = isinstance(pipeline, (WanPipeline, WanImageToVideoPipeline))
    call = {"num_frames": 33 if wan else 16, "num_inference_steps": steps, "guidance_scale": guidance, "generator": generator}
    if isinstance(pipeline, WanImageToVideoPipeline):
        drawn = draw_scene((scene.shape, scene.colour, scene.background, scene.motion), generator)
        call["image"] = render(drawn, torch.zeros(1))
    return pipeline(prompt=scene.caption, height=64, width=64, **call, output_type="pt").frames[0].permute(0, 2, 3, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="assets/moving-shapes")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--images", action="store_true", help="give each clip its first frame, as a Wan like TI2V-5B takes it")
    parser.add_argument("--save", type=Path, help="also store the clips, a tensor (N, F, H, W, 3), as .safetensors")
    args = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    kind = WanImageToVideoPipeline if args.images else DiffusionPipeline
    pipeline = kind.from_pretrained(args.model)
    pipeline.set_progress_bar_config(disable=True)
    began, right, clips = time.time(), {part: 0 for part in BARS}, []
    for seed, scene in enumerate(captions(args.count)):
        clips.append(make_clip(pipeline, scene, seed, args.guidance, args.steps))
        shown = track(clips[-1])
        wrong = [part for part in BARS if getattr(shown, part) != getattr(scene, part)]
        for part in BARS:
            right[part] += part not in wrong
        notes = ", ".join(f"{part}: {getattr(shown, part)}" for part in wrong)
        print(f"{'ok   ' if not wrong else 'wrong'} {scene.caption}{'  ->  ' + notes if notes else ''}", flush=True)
    shares = {part: count / args.count for part, count in right.items()}
    print(
        json.dumps(
            {
                "right": shares,
                "bar": BARS,
                "seconds": round(time.time() - began),
                "cores": usable_cores(),
                "machine": platform.machine(),
            }
        )
    )
    if args.save:
        from safetensors.torch import save_file

        save_file({"clips": torch.stack(clips).contiguous()}, args.save)
    return int(any(shares[part] < bar for part, bar in BARS.items()))


if __name__ == "__main__":
    raise SystemExit(main())
