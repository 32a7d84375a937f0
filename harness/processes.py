"""The ranks of a host, and the wait for processes that are not children of this one."""

import os
import select
import subprocess
from contextlib import suppress
from pathlib import Path

from parallel.pool.launchers import TEMPLATE


def children(pid: int) -> list[int]:
    """Return the processes that a process, any of its threads, has started and that it has not seen end."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it ended meanwhile
            found += map(int, file.read_text().split())
    return found


def called(pid: int, module: str) -> bool:
    """Say whether a process was called to run a module of the pack."""
    with suppress(OSError):
        return module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


def templates(host: int) -> list[int]:
    """Return the processes that a host's ranks are forked from."""
    return [pid for pid in children(host) if called(pid, TEMPLATE)]


def rank_processes(host: int) -> list[int]:
    """Return the rank processes of a host: those that it started as such, and those that its templates forked."""
    started = [pid for pid in children(host) if called(pid, "parallel.rank.worker")]
    return started + [pid for template in templates(host) for pid in children(template)]


def ends(pid: int, seconds: float = 5) -> bool:
    """Wait until a process ends; a rank does so by itself when its host is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([descriptor], [], [], seconds)
    os.close(descriptor)
    return bool(ended)


def ends_within(process: subprocess.Popen, seconds: float) -> bool:
    """Say whether a child ends within some seconds. For loops that wait for what has no event: the time is left to the child."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None
