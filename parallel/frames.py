"""Shared blocks: the host reserves one, ranks write their slice, the host reads the whole; nothing is copied or gathered."""

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch

from .errors import JobRefused
from .protocol import BlockHandle, BlockType

DTYPES = {"float32": torch.float32, "uint8": torch.uint8, "int64": torch.int64}


def check_room(shapes: Iterable[tuple[int, ...]]) -> None:
    """Raise JobRefused unless there is memory for blocks of float32: they are only filled as the video grows."""
    wanted, free = sum(4 * torch.Size(shape).numel() for shape in shapes), free_bytes()
    if wanted > free:
        raise JobRefused(
            f"the video wants {wanted / 2**30:.1f} GiB of shared memory, {free / 2**30:.1f} GiB are free: "
            "ask for fewer or smaller frames, or free memory"
        )


def free_bytes() -> int:
    """Return how much memory blocks may take: what this machine has free, and a container may still use.

    Elsewhere than on Linux, where they are files, what the temporary folder has free.
    """
    memory = Path("/proc/meminfo")
    if not hasattr(os, "memfd_create") or not memory.exists():
        return shutil.disk_usage(tempfile.gettempdir()).free
    sizes = dict(line.split(":") for line in memory.read_text().splitlines())
    free = int(sizes["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines()).get("inactive_file", "0")
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, int(limit) - int(used) + int(cached))


class Block:
    """A tensor in memory that several processes share.

    On Linux it has no name on any disk and ends with the last process that holds it, however that process ends.
    Elsewhere it is a file in the temporary folder, which `close` removes. The tensor outlives `close`.
    """

    def __init__(self, shape: tuple[int, ...], dtype: BlockType):
        """Reserve a zeroed block; raise JobRefused if there is not enough memory."""
        size = max(1, torch.Size(shape).numel() * DTYPES[dtype].itemsize)
        self._path: str | None = None
        self._descriptor: int | None
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("video-infinity")
            path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        else:
            self._descriptor, self._path = tempfile.mkstemp(prefix="video-infinity-")
            path = self._path
        try:
            os.truncate(self._descriptor, size)
            self.tensor = _map(self._descriptor, shape, dtype)
        except (OSError, ValueError) as error:
            self.close()
            raise JobRefused(f"cannot reserve {size / 2**30:.1f} GiB for the video ({error}): ask for fewer frames") from error
        self.handle = BlockHandle(path=path, shape=shape, dtype=dtype)

    def close(self) -> None:
        """Let no further process open the block. Safe to call twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._path is not None:
            os.unlink(self._path)
            self._path = None

    def __enter__(self) -> "Block":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def attach(handle: BlockHandle) -> torch.Tensor:
    """Return another process's block as a tensor that shares its memory."""
    descriptor = os.open(handle.path, os.O_RDWR)
    try:
        return _map(descriptor, handle.shape, handle.dtype)
    finally:
        os.close(descriptor)


def _map(descriptor: int, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    memory = mmap.mmap(descriptor, 0)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)  # 2 MB at a time: 500 times fewer faults as frames are first written
    return torch.frombuffer(memory, dtype=DTYPES[dtype], count=torch.Size(shape).numel()).view(shape)
