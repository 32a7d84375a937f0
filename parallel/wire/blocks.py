"""Shared blocks: the host reserves one, ranks write their slice, the host reads the whole; nothing is copied or gathered."""

import errno
import mmap
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch

from ..job.errors import JobRefused
from . import cgroup
from .messages import BlockHandle, BlockType

DTYPES = {"float32": torch.float32, "uint8": torch.uint8, "int64": torch.int64}
LEFTOVER = re.compile(r"video-infinity-(?P<pid>\d{1,9})-\w+\.block")


def check_room(shapes: Iterable[tuple[int, ...]]) -> None:
    """Raise JobRefused unless there is memory for blocks of float32: they are only filled as the video grows."""
    wanted, free = sum(4 * torch.Size(shape).numel() for shape in shapes), free_bytes()
    if wanted > free:
        raise JobRefused(
            f"the video wants {wanted / 2**30:.1f} GiB of shared memory, {free / 2**30:.1f} GiB are free: "
            "put frames into a file as they come, ask for fewer or smaller ones, or free memory"
        )


def can_release() -> bool:
    """Say whether a block's memory can be given back in parts: on Linux. Elsewhere it is a file, which lies on a disk anyway."""
    return hasattr(os, "memfd_create") and hasattr(mmap, "MADV_REMOVE")


def free_bytes() -> int:
    """Return how much memory blocks may take: what this machine has free, and a container may still use.

    Elsewhere than on Linux, where they are files, what the temporary folder has free.
    """
    memory = Path("/proc/meminfo")
    if not hasattr(os, "memfd_create") or not memory.exists():
        return shutil.disk_usage(tempfile.gettempdir()).free
    sizes = dict(line.split(":") for line in memory.read_text().splitlines())
    free = int(sizes["MemAvailable"].split()[0]) * 1024
    allowed = cgroup.free_memory()
    return free if allowed is None else min(free, allowed)


class Block:
    """A tensor in memory that several processes share.

    On Linux it has no name on any disk and ends with the last process that holds it, however that process ends.
    Elsewhere it is a file in the temporary folder, which `close` removes; where the system refuses that as long as a process
    has it mapped (Windows), it goes with the tensor, or, if a rank still has it then, when next a block is made. The tensor
    outlives `close`.
    """

    def __init__(self, shape: tuple[int, ...], dtype: BlockType):
        """Reserve a zeroed block; raise JobRefused if there is not enough memory."""
        size = max(1, torch.Size(shape).numel() * DTYPES[dtype].itemsize)
        self._descriptor: int | None = None
        self._file: Path | None = None  # what `close` is to remove
        try:
            self._descriptor, path = self._open()
            os.truncate(self._descriptor, size)
            memory = _map(self._descriptor)
        except (OSError, ValueError) as error:
            self.close()
            files = getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE)
            cure = "allow this process more open files (ulimit -n)" if files else "ask for fewer frames"
            raise JobRefused(f"cannot reserve {size / 2**30:.1f} GiB for the video ({error}): {cure}") from error
        if self._file is not None:
            weakref.finalize(memory, _removed, self._file)
        self._memory = memory
        self.tensor = _view(memory, shape, dtype)
        self.handle = BlockHandle(path=path, shape=shape, dtype=dtype)

    def _open(self) -> tuple[int, str]:
        """Open an empty file; return it, and the path by which another process can open it."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("video-infinity")
            return descriptor, f"/proc/{os.getpid()}/fd/{descriptor}"
        remove_leftovers()
        descriptor, path = tempfile.mkstemp(prefix=f"video-infinity-{os.getpid()}-", suffix=".block")
        self._file = Path(path)
        return descriptor, path

    def close(self) -> None:
        """Let no further process open the block. Safe to call twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._file is not None and _removed(self._file):
            self._file = None

    def release(self, rows: range) -> None:
        """Give the memory of some rows of the tensor's first axis back to the system: they are zero from then on, in all processes.

        As far as they are whole pages; and only where the system can (`can_release`).
        """
        if not can_release():
            return
        row = self.tensor[0].numel() * self.tensor.element_size()
        begin = -(-rows.start * row // mmap.PAGESIZE) * mmap.PAGESIZE
        end = rows.stop * row // mmap.PAGESIZE * mmap.PAGESIZE
        if end > begin:
            self._memory.madvise(mmap.MADV_REMOVE, begin, end - begin)

    def __enter__(self) -> "Block":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def attach(handle: BlockHandle) -> torch.Tensor:
    """Return another process's block as a tensor that shares its memory."""
    descriptor = os.open(handle.path, os.O_RDWR)
    try:
        return _view(_map(descriptor), handle.shape, handle.dtype)
    finally:
        os.close(descriptor)


def remove_leftovers() -> None:
    """Remove the blocks that processes left in the temporary folder that have ended without time or right to do so."""
    for file in Path(tempfile.gettempdir()).glob("video-infinity-*.block"):
        name = LEFTOVER.fullmatch(file.name)
        if name is not None and not _may_run(int(name["pid"])):
            _removed(file)


def _may_run(pid: int) -> bool:
    """Say whether a process may run. On Windows nobody needs to know: it refuses to remove what a process still has."""
    if os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def _removed(file: Path) -> bool:
    """Remove a file and say whether it is gone: Windows refuses while a process has it open or mapped."""
    try:
        file.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _map(descriptor: int) -> mmap.mmap:
    memory = mmap.mmap(descriptor, 0)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)  # 2 MB at a time: 500 times fewer faults as frames are first written
    return memory


def _view(memory: mmap.mmap, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    """Return mapped memory as a tensor, which keeps it mapped."""
    return torch.frombuffer(memory, dtype=DTYPES[dtype], count=torch.Size(shape).numel()).view(shape)
