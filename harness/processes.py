"""Wait for processes that are not children of this one."""

import os
import select


def ends(pid: int, seconds: float = 5) -> bool:
    """Wait until a process ends; a rank does so by itself when its host is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([descriptor], [], [], seconds)
    os.close(descriptor)
    return bool(ended)
