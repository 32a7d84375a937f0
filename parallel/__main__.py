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

from . import movies
from .arguments import build_job, build_parser, check_resume
from .errors import JobRefused, RankFailed, Stopped
from .folder import check
from .plan import keys_notice
from .pool import Pool, Video
from .pool.devices import resolve
from .protocol import Job, Step
from .snapshot_file import Keeper, Stored, load
from .whole import whole


def is_latents(file: str | None) -> bool:
    """Return whether an init's file holds latents, and not frames."""
    return file is not None and file.endswith(".safetensors")


def read_init(file: str | None, job: Job):
    """Return the init as the pool takes it, or None; raise JobRefused."""
    if file is None:
        return None
    if not is_latents(file):
        return movies.read(Path(file), height=job.height, width=job.width, most=job.frames)
    try:
        return load_file(file)["latents"][0].float()
    except (OSError, KeyError, IndexError, SafetensorError) as error:
        raise JobRefused(f"init {file} holds no latents ({error}): give a file that --latents wrote") from None


def read_stored(args: argparse.Namespace) -> Stored | None:
    """Return the snapshot to go on from, or None; raise JobRefused."""
    if args.resume is None:
        return None
    check_resume(args)
    return load(Path(args.resume))


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


def check_files(args: argparse.Namespace) -> None:
    """Raise JobRefused if a run would write over what it or an earlier one keeps."""
    if args.snapshot and args.snapshot != args.resume and Path(args.snapshot).exists():
        raise JobRefused(f"snapshot {args.snapshot} is there already: go on with --resume {args.snapshot}, or remove it")
    named = (args.output, args.latents, args.report, args.snapshot or args.resume)
    files = [Path(file).resolve() for file in named if file]
    if len(files) != len(set(files)):
        raise JobRefused("output, latents, report, snapshot: wanted a file each, got one name twice: give each its own")


def generate(args: argparse.Namespace, should_stop) -> None:
    """Run one job, or the rest of one, and write what it made."""
    stored = read_stored(args)
    job = build_job(args) if stored is None else stored.job
    devices = resolve(args.devices, frames=job.frames)
    check(job, len(devices))
    if (notice := keys_notice(job)) is not None:
        print_notice(notice)
    output = Path(args.output)
    movies.check_output(output, height=job.height, width=job.width)
    for file in filter(None, (args.latents, args.report, args.snapshot)):
        movies.check_writable(Path(file))
    check_files(args)
    init = read_init(args.init, job)
    file = args.snapshot or args.resume
    keeper = Keeper(Path(file), job, args.snapshot_seconds) if file else None
    bar = Bar()
    with Pool(devices, args.threads, restarts=args.restarts) as pool:
        try:
            video = pool.run(
                job,
                init=init,
                init_is_latents=is_latents(args.init),
                stored=stored,
                keeper=keeper,
                on_step=bar,
                on_notice=print_notice,
                should_stop=should_stop,
            )
        finally:
            bar.close()
    began = time.perf_counter()
    assert video.frames is not None, "the job asks for frames"
    if args.latents:  # first: they are what took the time
        with whole(Path(args.latents)) as part:
            save_file({"latents": video.latents.contiguous()}, part)
    movies.write(video.frames, output, job.fps)
    if args.report:
        report = build_report(video, time.perf_counter() - began)
        with whole(Path(args.report)) as part:
            part.write_text(json.dumps(report, indent=2) + "\n")
    if keeper is not None:
        keeper.discard()
    print(f"{job.frames} frames of {job.width}x{job.height} in {output}")


def print_notice(text: str) -> None:
    """Say what a user should know, and what does not end the run."""
    print(f"note: {text}", file=sys.stderr)


def build_report(video: Video, write_seconds: float) -> dict:
    """Return what a video cost: seconds by phase (of the slowest rank), and each rank's communication and peak memory."""
    phases = ("load", "encode", "denoise", "decode")
    slowest = {phase: max(rank.seconds.get(phase, 0.0) for rank in video.ranks) for phase in phases}
    seconds = {"start": video.start_seconds, **slowest, "write": write_seconds}
    return {"seconds": seconds, "restarts": video.restarts, "ranks": [rank.model_dump() for rank in video.ranks]}


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
        file = args.snapshot or args.resume
        kept = file is not None and Path(file).exists()
        print(f"stopped: --resume {file} goes on" if kept else "stopped: nothing was written", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("stopped at once", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
