"""What the pool and a template process say to each other: packets of JSON on a socket that the one inherits from the other.

Descriptors travel beside them, so that a rank has its own and no other.
"""

from ..job.job import Frozen

PACKET = 4096  # bytes, at most
READY = b"ready"  # what a template says first


class Order(Frozen):
    """Host to template: fork a child that runs a module. Beside it: its standard input, its output, its status (a socket)."""

    module: str


class Child(Frozen):
    """Template to host, on a child's status: it runs (beside it: a descriptor of the process); once more, with its code, as it ends."""

    pid: int
    code: int | None = None  # as of subprocess: negative is the signal that ended it
