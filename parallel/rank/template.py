"""A process that has imported what ranks need, and forks a rank for each order of the host (pool/launchers.py). Linux only.

It is called with the modules to import. It forks only as one thread that has touched no GPU: a fork takes along neither whole.
"""

import gc
import importlib
import os
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from multiprocessing.connection import wait
from typing import NamedTuple

from ..wire.forks import PACKET, READY, Child, Order

GPU_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri", "/dev/dxg")  # what a driver opens when it is first asked anything
BLAS_THREADS = "OPENBLAS_NUM_THREADS"  # NumPy's and SciPy's library starts its threads when it is imported


class Running(NamedTuple):
    """A child that runs: its number, and the socket on which the host waits to know how it ends."""

    pid: int
    status: socket.socket


Children = dict[int, Running]  # by a descriptor of the process (a pidfd), which can be read when it has ended


def preload(modules: list[str], host: socket.socket) -> None:
    """Import modules. If the host goes meanwhile, the system ends this process, even in the middle of native code.

    The host says nothing before it was told READY: until then whatever can be read from it is its end, and SIGIO means that.
    """
    import fcntl  # not on Windows

    flags = fcntl.fcntl(host, fcntl.F_GETFL)
    signal.signal(signal.SIGIO, signal.SIG_DFL)  # to end the process
    fcntl.fcntl(host, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(host, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select([host], [], [], 0)[0]:
        os._exit(0)  # it was gone before there was a signal
    blas_threads = os.environ.get(BLAS_THREADS)
    os.environ[BLAS_THREADS] = "1"
    gc.disable()  # what modules make, they keep
    for module in modules:
        importlib.import_module(module)
    gc.freeze()  # a collection in a rank would copy the pages of all of it
    del os.environ[BLAS_THREADS]
    if blas_threads is not None:
        os.environ[BLAS_THREADS] = blas_threads
    fcntl.fcntl(host, fcntl.F_SETFL, flags)


def take_orders(host: socket.socket) -> str:
    """Fork a child for each order until the host is gone; return, in each of them, the module that it is to run."""
    children: Children = {}
    if not can_fork():
        os._exit(1)
    host.send(READY)
    while True:
        for ready in wait([host, *children]):
            if isinstance(ready, int):
                report_end(ready, children.pop(ready))
                continue
            module = fork(host, children)
            if module is not None:
                return module


def report_end(process: int, child: Running) -> None:
    """Tell the host how a child has ended."""
    os.close(process)
    code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
    with child.status, suppress(OSError):
        child.status.send(Child(pid=child.pid, code=code).model_dump_json().encode())


def fork(host: socket.socket, children: Children) -> str | None:
    """Fork a child for the order that has come; return, in the child alone, the module that it is to run.

    Ends this process if the host is gone, or if it can't fork.
    """
    try:
        packet, descriptors, _, _ = socket.recv_fds(host, PACKET, 3)
    except ConnectionError:
        packet = b""
    if not packet:
        os._exit(0)
    order = Order.model_validate_json(packet)
    stdin, stdout, status = descriptors
    if not can_fork():
        os._exit(1)  # the host makes do without a template
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # or the child would write it again
    pid = os.fork()
    if not pid:
        leave(host, children)
        become_rank(stdin, stdout, status)
        return order.module
    os.close(stdin)
    os.close(stdout)
    child, process = Running(pid, socket.socket(fileno=status)), os.pidfd_open(pid)
    children[process] = child
    with suppress(OSError):
        socket.send_fds(child.status, [Child(pid=pid).model_dump_json().encode()], [process])
    return None


def can_fork() -> bool:
    """Say whether a child would be whole: a library's thread leaves its locks locked, and a driver refuses to work in a child.

    Some packages ask for the GPU as they are imported.
    """
    opened = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that listed them
            opened.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return len(os.listdir("/proc/self/task")) == 1 and not any(path.startswith(GPU_DEVICES) for path in opened)


def leave(host: socket.socket, children: Children) -> None:
    """Close, in a child, what is the template's."""
    host.detach()  # it is descriptor 0, which the child's own replaces
    for process, child in children.items():
        os.close(process)
        child.status.close()


def become_rank(stdin: int, stdout: int, status: int) -> None:
    """Make a forked child what a process is that was just started."""
    os.setsid()  # the terminal's Ctrl-C is for the host, and a signal to the template's group for the template
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    os.dup2(stdout, 2)
    for descriptor in (stdin, stdout, status):
        os.close(descriptor)
    numpy, torch = (sys.modules.get(name) for name in ("numpy", "torch"))
    if numpy is not None:
        numpy.random.seed()  # Python's own generator is seeded anew by itself
    if torch is not None:
        torch.default_generator.seed()  # those of GPUs are made when a GPU is first used
    gc.enable()


def main() -> None:
    """Import, then fork; a child goes on with the module that it was ordered to run."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where the host ignores it, nobody would learn how children end
    host = socket.socket(fileno=0)
    try:
        preload(sys.argv[3:], host)
    except BaseException:
        os._exit(1)  # the host says so, and starts plain processes, and those say what is broken
    module = take_orders(host)
    sys.argv[2:] = [module]
    runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    main()
