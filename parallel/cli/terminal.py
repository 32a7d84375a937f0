"""What the command line says, to streams that may be closed, full or gone: a run never ends for that."""

import io
import os
import sys
from contextlib import suppress

from tqdm import tqdm

from ..wire.messages import Step


def open_streams() -> None:
    """Open what the caller closed (`>&-`) on nothing, lest a file of the run become stream 1 or 2 and be written into.

    What a stream's encoding lacks, as in a file name, is said in escapes.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it takes the lowest number that is free, and so the one that was closed
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Say a line on standard output."""
    _write(sys.stdout, text)


def warn(text: str) -> None:
    """Say a line on standard error."""
    _write(sys.stderr, text)


def close_streams() -> None:
    """Let go of streams that take nothing any more: Python would else end with an exit code of its own, 120."""
    for stream in (sys.stdout, sys.stderr):
        _write(stream, None)


def _write(stream, text: str | None) -> None:
    if stream is None:
        return
    try:
        if text is not None:
            stream.write(text + "\n")
        stream.flush()
    except (OSError, ValueError):  # it broke, or is closed
        with suppress(OSError, ValueError):  # a stream of no file
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)


class Bar:
    """A progress bar on a terminal, nothing elsewhere. The denoise steps of rank 0 stand for all: ranks go in step.

    tqdm itself goes quiet when the terminal is gone.
    """

    def __init__(self):
        self.bar, self.phase = None, ""

    def __call__(self, step: Step, latents: object) -> None:
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
