"""`python -m parallel generate`: the engine without ComfyUI, a thin face on Job and Pool."""

import argparse
import errno
import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from pathlib import Path

import torch

from ..families import folder
from ..families.table import ModelFolder
from ..job.errors import JobRefused, RankFailed, Stopped
from ..job.job import Job
from ..plan import notices
from ..pool import Pool
from ..pool.devices import resolve
from ..pool.init import check_embeddings, check_picture_tokens
from ..pool.snapshot_file import OPTIONAL, Keeper, Stored, load
from ..pool.whole import check_file
from . import inits, keyframes, latents_file, movies
from .arguments import build_parser
from .limits import check_open_files
from .request import build_job, check_files, check_resume, check_run
from .results import keep_latents, write_all, write_frames
from .terminal import Bar, close_streams, open_streams, warn

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
    output = Path(args.output)
    check_files(args)
    movies.check_output(output, height=job.height, width=job.width, fps=job.fps, frames=job.frames)
    for file in filter(None, (args.latents, args.report, args.snapshot)):
        check_file(Path(file))
    init = read_init(args, job, model)
    file = args.snapshot or args.resume
    given = {"keyframes": pixels} if stored is None else {name: getattr(stored, name) for name in OPTIONAL}
    check_embeddings(job, model, given.get("embeddings"))
    check_picture_tokens(job, model, given.get("picture_tokens"))
    for said in notices(job, model):
        notice(said)
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
