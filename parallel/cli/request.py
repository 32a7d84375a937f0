"""What the arguments ask for: the Job that they add up to, and which of them can't stand together."""

import argparse
import os
from pathlib import Path

from ..job import timeline
from ..job.errors import JobRefused
from ..job.files import ModelFiles
from ..job.job import Job, Prompt, Scope, Tuning, checked
from .arguments import Run, build_parser

# What says where and how to run; all other options are the video's.
ABOUT_RUNS = (
    "command", "devices", "threads", "snapshot", "snapshot_seconds", "resume", "restarts", "output", "latents", "report",
)  # fmt: skip


def check_run(args: argparse.Namespace) -> None:
    """Raise JobRefused if a number that says how to run is none that can be."""
    checked(Run, **{name: getattr(args, name) for name in Run.model_fields})


def check_resume(args: argparse.Namespace) -> None:
    """Raise JobRefused if options of the video stand beside --resume: they would say nothing."""
    default = build_parser().parse_args(["generate"])
    said = [name for name, value in vars(args).items() if name not in ABOUT_RUNS and value != getattr(default, name)]
    if said:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in said)
        raise JobRefused(f"--resume goes on with its own job: leave out {options}")


def check_files(args: argparse.Namespace) -> None:
    """Raise JobRefused if a run would write over what it reads, or over what it or an earlier one keeps."""
    if args.snapshot and args.snapshot != args.resume and os.path.exists(args.snapshot):
        raise JobRefused(f"snapshot {args.snapshot} is there already: go on with --resume {args.snapshot}, or remove it")
    written = (args.output, args.latents, args.report, args.snapshot or args.resume)
    files = [os.path.realpath(file) for file in written if file]
    if len(files) != len(set(files)):
        raise JobRefused("output, latents, report, snapshot: wanted a file each, got one name twice: give each its own")
    for file in files[1:]:
        if os.path.dirname(file) == files[0]:
            raise JobRefused(f"{file} would be in the output folder, which is for frames alone: put it elsewhere")
    given = [(name, getattr(args, name)) for name in ("init", "timeline", "model", *ModelFiles.model_fields)]
    given += [("lora", lora.file) for lora in args.lora or ()]
    given += [(wish.option, str(wish.file)) for wish in [*(args.image or ()), *(args.video or ())]]
    for name, file in given:
        if file and os.path.realpath(file) in files:
            raise JobRefused(f"{name} {file} would be written over: give what is made another name")


def build_job(args: argparse.Namespace) -> Job:
    """Return the Job that the arguments ask for, but for its keyframes; raise JobRefused."""
    prompts, scope = _prompts(args), _scope(args)
    tuning = checked(Tuning, **{name: getattr(args, name) for name in Tuning.model_fields})
    same = (
        "model", "parts", "dtype", "offload", "fade", "negative", "frames", "height", "width", "fps", "shift", "seed", "scheduler",
        "loop", "denoise",
    )  # fmt: skip
    scale, *second = args.guidance
    renamed = {"num_inference_steps": args.steps, "guidance_scale": scale, "guidance_scale_2": second[0] if second else None}
    noise = {"kind": args.noise, "window": args.noise_window, "stride": args.noise_stride, "share": args.noise_share}
    files = checked(ModelFiles, **{name: getattr(args, name) for name in ModelFiles.model_fields})
    settings = {"noise": noise, "scope": scope, "tuning": tuning, "files": files, "loras": tuple(args.lora or ())}
    return checked(Job, prompts=prompts, **settings, **{name: getattr(args, name) for name in same}, **renamed)


def _prompts(args: argparse.Namespace) -> tuple[Prompt, ...]:
    said = [text for text in (args.prompt, args.timeline) if text is not None]
    if len(said) != 1 and (said or args.steps != 0):  # without steps no prompt is used
        raise JobRefused("wanted either --prompt TEXT or --timeline FILE")
    if args.frames < 1:
        raise JobRefused(f"frames: wanted at least 1, got {args.frames}")
    if args.timeline is None:
        return (checked(Prompt, frame=0, text=args.prompt or ""),)
    return timeline.parse(_read_text(args.timeline), fps=args.fps, frames=args.frames)


def _scope(args: argparse.Namespace) -> Scope:
    return checked(
        Scope,
        local_context=args.local_context,
        global_frames=args.global_frames,
        local_bias=tuple(args.local_bias),
        global_bias=tuple(args.global_bias),
        phase_timestep=args.phase_timestep,
        ramp=args.bias_ramp,
        trained_frames=args.trained_frames,
        model_frames=args.model_frames,
        places=args.places,
        rotate=args.rotate,
        full_windows=args.full_windows,
    )


def _read_text(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            return timeline.decode(opened.read(timeline.MAX_BYTES + 1))
    except OSError as error:
        raise JobRefused(f"timeline {file} can't be read ({error}): give a text file") from None
