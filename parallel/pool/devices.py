"""Device names -> a device for each rank, checked before any rank starts."""

import os
import re

import torch

from ..job.errors import JobRefused
from ..wire import cgroup


def resolve(names: str, *, frames: int | None = None) -> tuple[str, ...]:
    """Return one device a rank from a comma-separated list, or from `auto`: every GPU, else two CPU ranks.

    `auto` takes no more than a video has `frames` (of its latents, where several frames are one): a rank without one would have
    nothing to do. Raises JobRefused for a
    device that is not there.
    """
    there = torch.cuda.device_count()
    if names.strip() == "auto":
        found = tuple(f"cuda:{i}" for i in range(there)) or ("cpu",) * min(2, usable_cores())
        return found[:frames]
    devices = tuple(name.strip() for name in names.split(","))
    for device in devices:
        if device != "cpu" and not re.fullmatch(r"cuda:(0|[1-9]\d{0,3})", device):
            raise JobRefused(f"device: wanted cpu or cuda:NUMBER, got {device!r}: separate several by commas, or use auto")
        if device != "cpu" and int(device[5:]) >= there:
            have = f"this machine has cuda:0 to cuda:{there - 1}" if there else "this machine has no GPU that torch can use"
            raise JobRefused(f"device {device} is not there: {have}; use cpu or auto")
    if len({device.split(":")[0] for device in devices}) > 1:
        raise JobRefused(f"devices {names}: all ranks must be of one kind: use GPUs only or CPUs only")
    gpus = [device for device in devices if device != "cpu"]
    if len(gpus) != len(set(gpus)):
        raise JobRefused(f"devices {names}: one rank a GPU: name each GPU once")
    return devices


def usable_cores() -> int:
    """Return how many cores this process may keep busy, at least 1: those of its affinity and its container's quota."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on; a user can set it with PYTHON_CPU_COUNT
        cores = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):  # not on Windows and macOS
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count()
    quota = cgroup.cpu_quota()
    return max(1, cores or 1) if quota is None else max(1, min(cores or 1, int(quota)))
