"""What a rank's process writes: passed on to the host's standard error as it comes, and its end kept for an error's words."""

import os
import re
import sys
import threading
from contextlib import suppress
from typing import IO

KEPT_BYTES = 8192
END_SECONDS = 1.0  # how long to wait for the end of what an ended process wrote: a child of its own may hold it open
NAMES_AN_ERROR = re.compile(r"error\b|exception\b|\bterminate\b|\w(Error|Exception)\b", re.IGNORECASE)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
NO_WORDS = ("Current thread ", "Thread 0x", "Extension modules:")  # of Python's own report of a crash


class Output:
    """A thread that reads a pipe to its end, so that nobody who writes into it waits; it closes the pipe then."""

    def __init__(self, pipe: IO[bytes]):
        self._end = b""
        self._reader = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._reader.start()

    def text(self) -> str:
        """Return the end of what an ended process wrote."""
        self.close()
        return COLOURS.sub("", self._end.decode(errors="replace"))

    def close(self) -> None:
        """Wait for the end of what an ended process wrote. Safe to call twice."""
        self._reader.join(END_SECONDS)

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            for data in iter(lambda: os.read(pipe.fileno(), KEPT_BYTES), b""):
                self._end = (self._end + data)[-KEPT_BYTES:]
                _pass_on(data)


def last_words(text: str) -> str:
    """Return what a process's output ends with, in one line: three lines from the last that names an error, or the last one."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(NO_WORDS)]
    errors = [number for number, line in enumerate(lines) if NAMES_AN_ERROR.search(line)]
    said = lines[errors[-1] :][:3] if errors else lines[-1:]
    return "".join(letter if letter.isprintable() else "?" for letter in " / ".join(said))[:500]


def _pass_on(data: bytes) -> None:
    """Write to the host's standard error, whatever ComfyUI or a test has put in its place; what it does not take is dropped."""
    if sys.__stderr__ is None:
        return  # the host was started without one, and its number may be another file's by now
    with suppress(OSError):
        while data:
            data = data[os.write(2, data) :]
