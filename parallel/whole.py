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
    try:
        yield part
        if part.is_file():
            settle(part)
        part.replace(path)  # an empty folder of that name, too
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)


def settle(file: Path) -> None:
    """Wait until a file's bytes are on the disk: a machine that goes down after a rename may else leave an empty file."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
