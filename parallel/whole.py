"""Files that appear whole or not at all, whatever happens while they are written."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a place to write to, a file or a folder, that becomes `path` only when all is written, and is removed otherwise."""
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    _remove(part)  # what a run that was killed left
    try:
        yield part
        for file in [*part.iterdir(), part] if part.is_dir() else [part]:
            settle(file)
        part.replace(path)  # an empty folder of that name, too
        settle(path.parent)
    finally:
        _remove(part)


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part)
    part.unlink(missing_ok=True)


def settle(file: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk.

    A machine that goes down after a rename may else leave an empty file, or none.
    """
    if file.is_dir() and os.name != "posix":
        return
    descriptor = os.open(file, os.O_RDONLY if file.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
