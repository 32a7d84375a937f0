"""Files that appear whole or not at all, whatever happens while they are written, and a rehearsal of it."""

import errno
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..job.errors import JobRefused

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)
PREFIX = ".video-infinity-"
LOST_BYTES = (errno.EIO, errno.ENOSPC, errno.EDQUOT)  # what fsync says when bytes did not reach the disk


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a place to write to, a file or a folder, that becomes `path` only when all is written, and is removed otherwise.

    What is written but can't take its name is kept, and the OSError says where.
    """
    path = _real(path)
    remove_leftovers(path.parent)
    with _place(path) as part:
        part.touch()
        mode = part.stat().st_mode
        part.unlink()
        yield part
        if part.is_file():
            with suppress(OSError):  # a file system without modes
                part.chmod(stat.S_IMODE(mode))  # safetensors makes files that nobody else can read
        for file in [*part.iterdir(), part] if part.is_dir() else [part]:
            sync(file)
        _move(part, path)
    sync(path.parent)


@contextmanager
def rehearsal(path: Path) -> Iterator[Path]:
    """Give the place that `whole` would, to try what it will be used for; remove it in any case.

    Raises JobRefused if there can be none, or if what is written there could not take the name of `path`.
    """
    real = _real(path)
    if not os.path.isdir(real.parent):  # Path's own raises where it may not look
        raise JobRefused(f"output folder {path.parent} does not exist: make it first")
    if os.path.isdir(real):
        _check_folder(path, real)
    elif os.path.lexists(real):
        _check_file(path, real)
    with ExitStack() as stack:
        with _refusing(f"output folder {path.parent}", "choose another one"):
            part = stack.enter_context(_place(real))
        yield part


def check_file(path: Path) -> None:
    """Raise JobRefused if a file can't be written there."""
    if os.path.isdir(path):
        raise JobRefused(f"output {path} is a folder: give the name of a file in it")
    with rehearsal(path) as part, _refusing(f"output {path}", "give it another name"):
        part.write_bytes(b"\0")


@contextmanager
def _refusing(what: str, do: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JobRefused(f"{what} can't be written ({error.strerror or error}): {do}") from None


def _check_folder(path: Path, real: Path) -> None:
    """Raise JobRefused unless a folder of frames can take the place of this one."""
    with _refusing(f"output folder {path}", "choose another one"):
        if any(real.iterdir()):
            raise JobRefused(f"output folder {path} is not empty, and old frames would mix with new ones: use a new one")
    if os.path.ismount(real):
        raise JobRefused(f"output folder {path} is where a disk is mounted: give the name of a new folder in it")
    _check_owner(path, real)


def _check_file(path: Path, real: Path) -> None:
    """Raise JobRefused unless a new file can take the place of what is there."""
    if not os.path.isfile(real):
        raise JobRefused(f"output {path} is a device or a pipe: give the name of a file")
    if os.path.ismount(real):
        raise JobRefused(f"output {path} is mounted, and can't be replaced: give it another name")
    if not os.access(real, os.W_OK):
        raise JobRefused(f"output {path} is there and can't be written: remove it, or give another name")
    _check_owner(path, real)


def _check_owner(path: Path, real: Path) -> None:
    """Raise JobRefused if only its owner may replace what is there, as in /tmp."""
    folder = real.parent.stat()
    if os.name != "posix" or not folder.st_mode & stat.S_ISVTX:
        return
    if os.geteuid() not in (0, folder.st_uid, real.lstat().st_uid):
        raise JobRefused(f"output {path} is there and is somebody else's: give it another name")


def _real(path: Path) -> Path:
    """Return where a path leads: a link stays, and what it leads to is replaced."""
    return Path(os.path.realpath(path))


@contextmanager
def _place(path: Path) -> Iterator[Path]:
    """Lend a place of the name of `path` in a new folder beside it, of a name that nobody else has."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=path.parent))
    try:
        with _in_use(folder):
            yield folder / path.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _lock_of(folder: Path) -> Path:
    return folder / folder.name  # no output can have this name


@contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """Hold a lock in a folder of ours as long as this process lives, so that `remove_leftovers` leaves it alone."""
    if fcntl is None:  # Windows, which renames no folder while a file in it is open
        yield
        return
    fresh = folder / f"{folder.name}.new"
    with fresh.open("w") as lock:
        with suppress(OSError):  # a file system without locks: a folder without one is never removed
            fcntl.flock(lock, fcntl.LOCK_EX)
            fresh.rename(_lock_of(folder))  # only once it is held
        yield


def remove_leftovers(folder: Path) -> None:
    """Remove what runs that were killed left in a folder: folders of ours whose lock nobody holds.

    Does nothing on Windows, which has no such locks.
    """
    if fcntl is None:
        return
    for left in folder.glob(f"{PREFIX}*"):
        with suppress(OSError), _lock_of(left).open("r+") as lock:  # in use, or not ours to remove
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left)


def _move(part: Path, path: Path) -> None:
    """Give what is written its name, in the place of a file or of an empty folder; if it can't be, keep it in plain sight."""
    try:
        if path.is_dir() and os.name != "posix":
            path.rmdir()
        part.replace(path)
    except OSError as error:
        kept = part.parent.with_name(part.parent.name.removeprefix("."))
        _lock_of(part.parent).unlink(missing_ok=True)
        part.parent.rename(kept)
        raise OSError(error.errno, f"{error.strerror}; it is whole in {kept / part.name}") from error


def sync(file: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk; raise OSError if bytes of a file are lost.

    A machine that goes down after a rename may else leave an empty file, or none. A file system that can't wait (some network
    and FUSE mounts refuse it, often for folders only) is taken as it is: what is written there is not less whole for it.
    """
    is_folder = file.is_dir()
    if is_folder and os.name != "posix":
        return
    try:
        descriptor = os.open(file, os.O_RDONLY if is_folder else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in LOST_BYTES and not is_folder:
            raise
        log.debug("%s could not be brought to the disk: %s", file, error)
