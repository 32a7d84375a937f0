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
    """Return one clip of a scene's caption, (F, 64, 64, 3) in [0, 1]."""
    frames = 33 if isinstance(pipeline, WanPipeline) else 16
    call = {"num_frames": frames, "num_inference_steps": steps, "guidance_scale": guidance}
    return _frames(pipeline, seed, prompt=scene.caption, **call)


def make_clip_of_image(pipeline: WanPipeline, scene: Scene, seed: int, guidance: float, steps: int) -> torch.Tensor:
    """Return one clip that is given a caption and the first frame of such a scene, as Wan 2.2's TI2V-5B takes it."""
    parts = {name: part for name, part in pipeline.components.items() if name != "transformer_2"}
    of_images = WanImageToVideoPipeline(**parts, expand_timesteps=True)
    of_images.set_progress_bar_config(disable=True)
    drawn = draw_scene((scene.shape, scene.colour, scene.background, scene.motion), torch.Generator().manual_seed(seed))
    told, untold = pipeline.encode_prompt(scene.caption)  # the pipeline for images wants the package ftfy for it
    call = {"prompt_embeds": told, "negative_prompt_embeds": untold, "image": render(drawn, torch.zeros(1))}
    return _frames(of_images, seed, **call, num_frames=33, num_inference_steps=steps, guidance_scale=guidance)


def _frames(pipeline: DiffusionPipeline, seed: int, **call) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return pipeline(height=64, width=64, generator=generator, **call, output_type="pt").frames[0].permute(0, 2, 3, 1)


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
    pipeline = DiffusionPipeline.from_pretrained(args.model)
    make = make_clip_of_image if args.images else make_clip
    pipeline.set_progress_bar_config(disable=True)
    began, right, clips = time.time(), {part: 0 for part in BARS}, []
    for seed, scene in enumerate(captions(args.count)):
        clips.append(make(pipeline, scene, seed, args.guidance, args.steps))
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
