"""`python -m parallel generate`: the engine without ComfyUI, a thin face on Job and Pool."""

import argparse
import errno
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from pathlib import Path

import torch

from ..families import folder
from ..families.latent_format import LatentFormat
from ..families.table import ModelFolder
from ..job.errors import JobRefused, RankFailed, Stopped
from ..job.files import ModelFiles
from ..job.job import Job
from ..plan import keys_notice
from ..pool import Pool, Video
from ..pool.devices import resolve
from ..pool.snapshot_file import OPTIONAL, Keeper, Stored, load
from ..pool.whole import check_file, whole
from . import inits, keyframes, latents_file, movies
from .arguments import build_job, build_parser, check_resume, check_run
from .limits import check_open_files
from .terminal import Bar, close_streams, open_streams, say, warn

OpenPool = Callable[..., AbstractContextManager[Pool]]  # of Pool's own arguments; ranks that are warm are not ended after it


def is_latents(file: str | None) -> bool:
    """Return whether an init's file holds latents, and not frames."""
    return file is not None and Path(file).suffix.lower() in latents_file.SUFFIXES


def read_init(args: argparse.Namespace, job: Job, model: ModelFolder) -> torch.Tensor | None:
    """Return the init as the pool takes it, or None; raise JobRefused."""
    if args.init is None:
        return None
    file = Path(args.init)
    if is_latents(args.init):
        return latents_file.load(file, model.latents_shape(job), model.latent_format, geometry=model.geometry, notify=notice)
    init = inits.read(file, most=job.frames, height=job.height, width=job.width, fit=args.init_fit, notify=notice)
    if len(init) not in (1, job.frames):
        raise JobRefused(
            f"init {file}: wanted {job.frames} frames, as the job has, or one picture for all, got {len(init)}: "
            f"use --frames {len(init)}"
        )
    return init


def with_keyframes(args: argparse.Namespace, job: Job) -> tuple[Job, torch.Tensor | None]:
    """Return a job with the frames that are given, and the pixels of these; raise JobRefused."""
    wishes = [*(args.image or ()), *(args.video or ())]
    given, pixels = keyframes.read(wishes, job, fit=args.init_fit, notify=notice)
    return job.with_keyframes(given), pixels


def read_stored(args: argparse.Namespace) -> Stored | None:
    """Return the snapshot to go on from, or None; raise JobRefused."""
    if args.resume is None:
        return None
    check_resume(args)
    return load(Path(args.resume))


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


def generate(args: argparse.Namespace, should_stop: Callable[[], bool], open_pool: OpenPool = Pool) -> list[str]:
    """Run one job, or the rest of one, and write what it made; return what could not be written, and why."""
    check_run(args)
    stored = read_stored(args)
    job, pixels = with_keyframes(args, build_job(args)) if stored is None else (stored.job, stored.keyframes)
    model = None if stored is None else stored.model
    model = model or folder.inspect(job.model, job.parts, job.files)
    devices = resolve(args.devices, frames=model.geometry.latents(job.frames))
    folder.check(job, len(devices), model)
    check_open_files(len(devices))
    if (said := keys_notice(job, model.geometry)) is not None:
        notice(said)
    output = Path(args.output)
    check_files(args)
    movies.check_output(output, height=job.height, width=job.width, fps=job.fps, frames=job.frames)
    for file in filter(None, (args.latents, args.report, args.snapshot)):
        check_file(Path(file))
    init = read_init(args, job, model)
    file = args.snapshot or args.resume
    given = {"keyframes": pixels} if stored is None else {name: getattr(stored, name) for name in OPTIONAL}
    keeper = Keeper(Path(file), job, args.snapshot_seconds, **given) if file else None
    bar = Bar()
    with open_pool(devices, args.threads, restarts=args.restarts) as pool, ExitStack() as writing:
        movie = writing.enter_context(movies.streaming(output, job))
        try:
            video = pool.run(
                job,
                model=model,
                init=init,
                init_is_latents=is_latents(args.init),
                keyframes=pixels,
                stored=stored,
                keeper=keeper,
                movie=movie,
                on_step=bar,
                on_notice=notice,
                should_stop=should_stop,
            )
        except RankFailed as fault:
            if fault.latents is not None:
                notice(f"all steps were done: {keep_latents(args, fault.latents, model.latent_format)}")
            raise
        finally:
            bar.close()
        finish = writing.close if movie is not None else partial(write_frames, video, output, job)
        failed = write_all(args, job, video, model.latent_format, write_video=finish)
    if keeper is not None and not failed:
        keeper.discard()
    return failed


def notice(text: str) -> None:
    """Say what a user should know, and what does not end the run."""
    warn(f"note: {text}")


def write_frames(video: Video, output: Path, job: Job) -> None:
    """Write the frames of a video, all at once."""
    assert video.frames is not None, "the job asks for frames, and nobody has taken them"
    movies.write(video.frames, output, job.fps)


def write_all(
    args: argparse.Namespace, job: Job, video: Video, form: LatentFormat, *, write_video: Callable[[], None]
) -> list[str]:
    """Write what a run made, each file whether the others can be or not; return what could not be, why, and what is left."""
    output, began = Path(args.output), time.perf_counter()
    no_latents: list[str] = []
    if args.latents:  # first: they are what took the time
        no_latents = try_to_write(args.latents, lambda: latents_file.save(Path(args.latents), video.latents, form))
    no_video = try_to_write(args.output, write_video)
    failed = [*no_latents, *no_video]
    if args.report:
        report = build_report(video, time.perf_counter() - began)
        failed += try_to_write(args.report, lambda: write_report(Path(args.report), report))
    if not no_video:
        say(f"{job.frames} frames of {job.width}x{job.height} in {output}")
    if no_video or no_latents:
        kept = Path(args.latents) if args.latents and not no_latents else None
        file = args.snapshot or args.resume
        if file is not None and os.path.exists(file):
            return [*failed, f"--resume {file} decodes and writes it again"]
        return [*failed, how_to_decode(kept or rescue_latents(args, video.latents, form))]
    return failed


def try_to_write(file: str, write: Callable[[], None]) -> list[str]:
    """Return [] if a file could be written, else what to say of it."""
    try:
        write()
    except movies.REFUSALS as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        return [f"{file} could not be written ({error}){': make room on its disk' if full else ''}"]
    return []


def keep_latents(args: argparse.Namespace, latents: torch.Tensor, form: LatentFormat) -> str:
    """Write what is done of a video that has no frames, where it was asked for or else where there is room; say where it is."""
    if args.latents and not try_to_write(args.latents, lambda: latents_file.save(Path(args.latents), latents, form)):
        return how_to_decode(Path(args.latents))
    return how_to_decode(rescue_latents(args, latents, form))


def rescue_latents(args: argparse.Namespace, latents: torch.Tensor, form: LatentFormat) -> Path | None:
    """Write latents to a new file, beside the output or among temporary files; return it, or None if there is no room."""
    folders = [Path(args.output).absolute().parent, Path(tempfile.gettempdir())]
    return latents_file.rescue(folders, latents, form)


def how_to_decode(kept: Path | None) -> str:
    """Return how to get a video from the latents that were kept of it."""
    if kept is None:
        return "its latents found no room elsewhere either"
    return f"its latents are in {kept}: with the same model and size, --init {kept} --steps 0 decodes and writes them again"


def write_report(file: Path, report: dict) -> None:
    """Write what a video cost as JSON."""
    with whole(file) as part:
        part.write_text(json.dumps(report, indent=2) + "\n")


def build_report(video: Video, write_seconds: float) -> dict:
    """Return what a video cost: seconds by phase (of the slowest rank), and each rank's communication and peak memory."""
    phases = ("load", "encode", "denoise", "decode")
    slowest = {phase: max(rank.seconds.get(phase, 0.0) for rank in video.ranks) for phase in phases}
    seconds = {"start": video.start_seconds, **slowest, "write": write_seconds}
    return {"seconds": seconds, "restarts": video.restarts, "ranks": [rank.model_dump() for rank in video.ranks]}


CURES = {
    errno.EMFILE: "allow more open files (ulimit -n), or use fewer ranks",
    errno.ENFILE: "close other programs: the system has no file left to open",
    errno.EAGAIN: "allow more processes (ulimit -u), or use fewer ranks",
    errno.ENOMEM: "use fewer or smaller frames, or fewer ranks",
    errno.ENOSPC: "make room in shared memory and in the folder for temporary files",
}


def main() -> int:
    """Run the command line; return the exit code: 0, 1 for what failed, 2 for wrong input, 130 if stopped."""
    open_streams()
    try:
        args = build_parser().parse_args()
        return run(args, handle_signals().is_set)
    finally:
        close_streams()


def run(args: argparse.Namespace, should_stop: Callable[[], bool], open_pool: OpenPool = Pool) -> int:
    """Run what the arguments ask for, and say how it ended; return the exit code."""
    try:
        failed = generate(args, should_stop, open_pool)
        if failed:
            warn(f"error: {'; '.join(failed)}")
        return 1 if failed else 0
    except JobRefused as error:
        warn(f"error: {error}")
        return 2
    except RankFailed as error:
        warn(f"error: {error}")
        return 1
    except (OSError, MemoryError) as error:
        number = errno.ENOMEM if isinstance(error, MemoryError) else error.errno
        cure = CURES.get(number or 0, "see whether the system lacks something")
        warn(f"error: no video was made ({str(error) or 'out of memory'}): {cure}")
        return 1
    except Stopped:
        file = args.snapshot or args.resume
        kept = file is not None and os.path.exists(file)
        warn(f"stopped: --resume {file} goes on" if kept else "stopped: nothing was written")
        return 130
    except KeyboardInterrupt:
        warn("stopped at once")
        return 130


def handle_signals() -> threading.Event:
    """Return what is set when the user, or the system, asks to stop; a second time ends the run at once."""
    stop = threading.Event()

    def interrupt(*_) -> None:
        if stop.is_set():
            raise KeyboardInterrupt  # asked twice: do not wait for the step to end
        stop.set()
        with suppress(OSError):  # past Python's own buffer, which may be busy with another line
            os.write(2, b"stopping after this step; press Ctrl-C again to stop at once\n")

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    hangup = getattr(signal, "SIGHUP", None)  # none on Windows; the terminal was closed
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:  # as under nohup
        signal.signal(hangup, interrupt)
    return stop
