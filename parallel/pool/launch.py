"""How a rank's process is called: the host's own interpreter, with its settings, and the pack wherever it lies."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What decides where modules come from: a rank must find the packages that the host does.
FLAGS = {
    "isolated": "-I",
    "ignore_environment": "-E",
    "no_user_site": "-s",
    "no_site": "-S",
    "safe_path": "-P",  # from Python 3.11 on
    "dont_write_bytecode": "-B",
}
# `-m` would look for the pack on the interpreter's path, which knows it only if the rank runs in the pack's folder, and never
# if it is fixed (PYTHONSAFEPATH, a `._pth` file). The empty name means the folder that the host runs in: no packages for a rank.
RUN = (
    "import sys; sys.path[:] = [sys.argv[1], *filter(None, sys.path)]; "
    "import runpy; runpy.run_module(sys.argv[2], run_name='__main__')"
)
# A host that was itself started by torchrun must not hand its own group down.
DROPPED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
ALLOCATOR_SETTINGS = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
ASYNC_ALLOCATORS = ("backend:cudaMallocAsync", "backend:hipMallocAsync")


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module of the pack in a process of its own, from whatever folder."""
    flags = [flag for name, flag in FLAGS.items() if getattr(sys.flags, name, False)]
    return [sys.executable, *flags, "-X", f"utf8={sys.flags.utf8_mode}", "-c", RUN, str(ROOT), module, *arguments]


def environment() -> dict[str, str]:
    """Return the host's environment, without what is the host's alone."""
    kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
    for name in ALLOCATOR_SETTINGS:
        if name in kept:
            kept[name] = _native_allocator(kept[name])
            if not kept[name]:
                del kept[name]
    return kept


def _native_allocator(setting: str) -> str:
    """Return an allocator setting without ComfyUI's choice for its own process, which it appends: NCCL wants the native one."""
    parts = setting.split(",")
    return ",".join(part for part in parts if "".join(part.split()) not in ASYNC_ALLOCATORS)


def popen(command: list[str], environment: dict[str, str], stdin: int) -> subprocess.Popen:
    """Return a new process in a session of its own, whose output is one pipe."""
    return subprocess.Popen(
        command,
        env=environment,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        start_new_session=True,  # the terminal's Ctrl-C is for the host
    )
