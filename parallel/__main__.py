"""`python -m parallel generate`: the engine without ComfyUI, a thin face on Job and Pool."""

import argparse
import json
import signal
import sys
import threading
import time
from pathlib import Path

import av
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from . import movies, timeline
from .errors import JobRefused, RankFailed, Stopped
from .folder import check
from .pool import Pool, Video
from .pool.devices import resolve
from .protocol import Job, Prompt, Scope, Step, Tuning, checked

BUNDLED = Path(__file__).resolve().parents[1] / "assets" / "moving-shapes"


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's grammar. Its defaults are the Job's."""
    default = {name: field.default for name, field in Job.model_fields.items()}
    scope, tuning = Scope(), Tuning()
    parser = argparse.ArgumentParser(prog="python -m parallel", description=__doc__)
    generate = parser.add_subparsers(dest="command", required=True).add_parser(
        "generate", help="make one long video", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = generate.add_argument
    add("--model", default=str(BUNDLED), help="a diffusers model folder")
    add("--parts", help="a second folder, for what the first one lacks (text encoder, tokenizer, VAE, scheduler)")
    add("--prompt", help="what is seen, in all frames")
    add("--timeline", help="a text file, one `FRAME: prompt` or `SECONDSs: prompt` a line, instead of --prompt")
    add("--fade", type=int, default=default["fade"], help="frames over which a prompt takes over from the one before")
    add("--negative", default=default["negative"], help="what is not seen")
    add("--frames", type=int, default=96)
    add("--height", type=int, default=64)
    add("--width", type=int, default=64)
    add("--fps", type=float, default=default["fps"])
    add("--steps", type=int, default=default["num_inference_steps"], help="0: the starting noise")
    add("--guidance", type=float, default=default["guidance_scale"])
    add("--seed", type=int, default=default["seed"])
    add("--scheduler", default=default["scheduler"], help="model, ddim, dpmpp_2m, uni_pc, euler or euler_ancestral")
    add("--loop", action="store_true", help="the last frame leads into the first")
    add("--devices", default="auto", help="auto, or one device a rank: cpu,cpu or cuda:0,cuda:1")
    add("--threads", type=int, help="threads of a CPU rank (default: the cores, shared out)")
    add("--dtype", default=default["dtype"], help="float32, float16 or bfloat16")
    add("--offload", default=default["offload"], help="none, or parts: what a phase does not use waits in host memory")
    add("--local-context", type=int, default=scope.local_context, help="frames on either side that a frame attends to")
    add("--global-frames", type=int, default=scope.global_frames, help="frames of the whole video that all attend to")
    pair = ("EARLY", "LATE")
    add("--local-bias", type=float, nargs=2, metavar=pair, default=scope.local_bias, help="added to local keys' logits")
    add("--global-bias", type=float, nargs=2, metavar=pair, default=scope.global_bias, help="added to global keys' logits")
    add("--phase-timestep", type=int, default=scope.phase_timestep, help="timesteps above it are early")
    add("--bias-ramp", action="store_true", help="go from early to late evenly instead of at a timestep")
    add("--trained-frames", type=int, help="scale logits by log(keys) / log(this)")
    add("--branches", default=tuning.branches, help="guidance's two UNet calls: auto, together, or apart (half the memory)")
    add("--park-skips", default=tuning.park_skips, help="skip tensors wait in host memory: auto, never or always")
    add("--frames-at-once", type=int, help="frames that a spatial layer works on at once (default: what suits the device)")
    add("--pixels-at-once", type=int, help="latent pixels that a layer over frames works on at once")
    add(
        "--stale-after", type=int, help="after so many exact steps use what other ranks sent before; changes the video a little"
    )
    add("--stale-for", type=int, default=tuning.stale_for, help="for how many steps what other ranks sent is used")
    add("--reuse-every", type=int, default=tuning.reuse_every, help="run deep layers every so many steps; changes the video")
    add("--compile", action="store_true", help="torch.compile, on GPUs")
    add("--init", help="an image, a video, a folder of images, or latents as .safetensors, to start from")
    add("--denoise", type=float, default=default["denoise"], help="share of the schedule to run on the init")
    add("--output", default="video.mp4", help="an .mp4, .webm or .webp file, or a folder for PNG files")
    add("--latents", help="also store the final latents, as .safetensors")
    add("--report", help="also store what it cost, as .json")
    return parser


def build_job(args: argparse.Namespace) -> Job:
    """Return the Job that the arguments ask for; raise JobRefused."""
    if (args.prompt is None) == (args.timeline is None):
        raise JobRefused("wanted either --prompt TEXT or --timeline FILE")
    if args.frames < 1:
        raise JobRefused(f"frames: wanted at least 1, got {args.frames}")
    if args.timeline is None:
        prompts: tuple[Prompt, ...] = (checked(Prompt, frame=0, text=args.prompt),)
    else:
        prompts = timeline.parse(_read_text(args.timeline), fps=args.fps, frames=args.frames)
    scope = checked(
        Scope,
        local_context=args.local_context,
        global_frames=args.global_frames,
        local_bias=tuple(args.local_bias),
        global_bias=tuple(args.global_bias),
        phase_timestep=args.phase_timestep,
        ramp=args.bias_ramp,
        trained_frames=args.trained_frames,
    )
    tuning = checked(Tuning, **{name: getattr(args, name) for name in Tuning.model_fields})
    same = (
        "model",
        "parts",
        "dtype",
        "offload",
        "fade",
        "negative",
        "frames",
        "height",
        "width",
        "fps",
        "seed",
        "scheduler",
        "loop",
        "denoise",
    )
    renamed = {"num_inference_steps": args.steps, "guidance_scale": args.guidance}
    return checked(Job, prompts=prompts, scope=scope, tuning=tuning, **{name: getattr(args, name) for name in same}, **renamed)


def _read_text(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise JobRefused(f"timeline {file} can't be read ({error}): give a text file") from None


def read_init(file: str | None, job: Job):
    """Return the init as the pool takes it, or None; raise JobRefused."""
    if file is None:
        return None
    if not file.endswith(".safetensors"):
        return movies.read(Path(file), height=job.height, width=job.width, most=job.frames)
    try:
        return load_file(file)["latents"][0].float()
    except (OSError, KeyError, IndexError, SafetensorError) as error:
        raise JobRefused(f"init {file} holds no latents ({error}): give a file that --latents wrote") from None


class Bar:
    """A progress bar on a terminal, nothing elsewhere. The denoise steps of rank 0 stand for all: ranks go in step."""

    def __init__(self):
        self.bar, self.phase = None, ""

    def __call__(self, step: Step, latents: torch.Tensor) -> None:
        if step.rank != 0:
            return
        if step.phase != self.phase:
            self.close()
            self.bar, self.phase = tqdm(total=step.steps, desc=step.phase, disable=None, file=sys.stderr), step.phase
        self.bar.update(step.step - self.bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()


def generate(args: argparse.Namespace, should_stop) -> None:
    """Run one job and write what it made."""
    job, devices = build_job(args), resolve(args.devices)
    check(job, len(devices))
    output = Path(args.output)
    movies.check_output(output, height=job.height, width=job.width)
    for file in filter(None, (args.latents, args.report)):
        movies.check_writable(Path(file))
    init = read_init(args.init, job)
    bar = Bar()
    with Pool(devices, args.threads) as pool:
        try:
            video = pool.run(job, init=init, on_step=bar, should_stop=should_stop)
        finally:
            bar.close()
    began = time.perf_counter()
    assert video.frames is not None, "the job asks for frames"
    if args.latents:  # first: they are what took the time
        with movies.whole(Path(args.latents)) as part:
            save_file({"latents": video.latents.contiguous()}, part)
    movies.write(video.frames, output, job.fps)
    if args.report:
        report = build_report(video, time.perf_counter() - began)
        with movies.whole(Path(args.report)) as part:
            part.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{job.frames} frames of {job.width}x{job.height} in {output}")


def build_report(video: Video, write_seconds: float) -> dict:
    """Return what a video cost: seconds by phase (of the slowest rank), and each rank's communication and peak memory."""
    phases = ("load", "encode", "denoise", "decode")
    slowest = {phase: max(rank.seconds.get(phase, 0.0) for rank in video.ranks) for phase in phases}
    seconds = {"start": video.start_seconds, **slowest, "write": write_seconds}
    return {"seconds": seconds, "ranks": [rank.model_dump() for rank in video.ranks]}


def main() -> int:
    """Run the command line; return the exit code: 0, 1 for a failed rank, 2 for wrong input, 130 if stopped."""
    args = build_parser().parse_args()
    stop = threading.Event()

    def interrupt(*_) -> None:
        if stop.is_set():
            raise KeyboardInterrupt  # asked twice: do not wait for the step to end
        stop.set()
        print("stopping after this step; press Ctrl-C again to stop at once", file=sys.stderr)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        generate(args, stop.is_set)
    except JobRefused as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RankFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, av.FFmpegError, SafetensorError) as error:
        print(f"error: the video was made but could not be written ({error}): is the disk full?", file=sys.stderr)
        return 1
    except Stopped:
        print("stopped: nothing was written", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("stopped at once", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
