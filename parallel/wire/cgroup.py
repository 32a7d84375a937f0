"""What a container, or another control group of Linux, leaves a process of the machine: CPU time and memory.

Both versions. Where there are none, as on other systems, nothing limits.
"""

from collections.abc import Iterator
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def cpu_quota(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> float | None:
    """Return how many cores' time this process may use, None if all that there is."""
    quotas = []
    for folder in groups("cpu", mount, membership):
        try:
            quota, period = _cpu_limit(folder)
            quotas.append(int(quota) / int(period))
        except (OSError, ValueError):  # no file of that version, or the word `max`
            continue
    return min((quota for quota in quotas if quota > 0), default=None)


def free_memory(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> int | None:
    """Return how many bytes this process may still take, None if nothing but the machine limits it."""
    rooms = []
    for folder in groups("memory", mount, membership):
        try:
            limit, used, cached = _memory_limit(folder)
            rooms.append(int(limit) - int(used) + int(cached))
        except (OSError, ValueError):
            continue
    return min(rooms, default=None)


def groups(controller: str, mount: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders of the groups that limit this process by a controller: its own one and all above, each limits.

    In a container the names are often the host's, and the container's own group is the top one that can be seen.
    """
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return
    for _, controllers, name in lines:
        if not controllers:
            tops = {mount}  # version 2 has one tree for all controllers
        elif controller in controllers.split(","):
            tops = {mount / controllers, mount / controller}
        else:
            continue
        for top in tops:
            own = top / name.lstrip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(top))


def _cpu_limit(folder: Path) -> list[str]:
    """Return what may be used of each period, and the period."""
    if (folder / "cpu.max").exists():
        return (folder / "cpu.max").read_text().split()
    return [(folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")]


def _memory_limit(folder: Path) -> tuple[str, str, str]:
    """Return the limit, what is used of it, and what of that are files that can be read again."""
    version_2 = (folder / "memory.max").exists()
    names = ("memory.max", "memory.current") if version_2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    limit, used = ((folder / name).read_text() for name in names)
    counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return limit, used, counts.get("inactive_file" if version_2 else "total_inactive_file", "0")
