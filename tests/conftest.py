"""Fixtures: warm ranks and warm pools, shared by all tests, and a check that nothing is left behind."""

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import configuration, settings

from harness import builders, wan_builders
from harness.faulty_worker import FILE
from harness.places import ROOT
from harness.processes import ends
from harness.ranks import Ranks
from parallel.pool import Pool, launchers, local
from parallel.pool.launchers import Forking, Launcher, Process

configuration.set_hypothesis_home_dir(tempfile.gettempdir())  # nothing is to be left in the repository
settings.register_profile("here", database=None, deadline=None)
settings.load_profile("here")


def pytest_collection_modifyitems(items):
    for item in items:
        for mark, wanted in (("gpu", 1), ("gpus", 2)):
            if item.get_closest_marker(mark) and (lack := lacking(wanted)):
                item.add_marker(pytest.mark.skip(reason=lack))


def lacking(gpus: int) -> str | None:
    """Return why tests on so many GPUs can't run here, or None if they can."""
    there = torch.cuda.device_count()
    if there < gpus:
        return f"needs {gpus} GPU{'s' if gpus > 1 else ''} that torch can use, this machine has {there or 'none'}"
    if gpus > 1 and not torch.distributed.is_nccl_available():
        return "needs NCCL, which this torch is built without"
    return None


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Ranks and the test itself share few cores; one thread each is fastest and the same everywhere."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ranks():
    with_ranks = Ranks("tests.on_ranks")
    yield with_ranks
    with_ranks.close()


@contextmanager
def unnamed() -> Iterator[None]:
    """The name of a test is no part of the environment meanwhile: a template would have to be made anew for each."""
    name = os.environ.pop("PYTEST_CURRENT_TEST", None)
    try:
        yield
    finally:
        if name is not None:
            os.environ["PYTEST_CURRENT_TEST"] = name


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """What a test does to the environment, as one that opens a group in this process, is no part of it for the next."""
    before = dict(os.environ)
    try:
        with unnamed():
            return (yield)
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    with unnamed():
        return (yield)


class Shared:
    """A launcher whose template outlives the pools that use it. Some tests run two pools at once."""

    def __init__(self, launcher: Launcher, lock: threading.Lock):
        self._launcher, self._lock = launcher, lock

    def prepare(self, should_stop) -> None:
        with self._lock:
            self._launcher.prepare(should_stop)

    def start(self, module: str) -> Process:
        with self._lock:
            return self._launcher.start(module)

    def stop(self) -> None:
        """Somebody else stops it."""


@pytest.fixture(scope="session", autouse=True)
def one_template(nothing_is_left, tmp_path_factory):
    """What the pools of all tests start their ranks with that are given no other: one template for all saves them its imports.

    It is a launcher for tests of templates, too.
    """
    everybodys, fastest = Forking() if launchers.can_fork() else launchers.Plain(), local.fastest_launcher
    lock = threading.Lock()
    os.environ[FILE] = str(tmp_path_factory.mktemp("faults") / "fault")  # now, so that the template has it
    local.fastest_launcher = lambda ranks: Shared(everybodys, lock)
    yield everybodys
    local.fastest_launcher = fastest
    everybodys.stop()


@pytest.fixture(scope="session")
def pools():
    """A function of the number of ranks that returns a warm pool of CPU ranks."""
    started: dict[int, Pool] = {}

    def pool(size: int) -> Pool:
        if size not in started:
            started[size] = Pool(("cpu",) * size, threads=1)
        return started[size]

    yield pool
    for each in started.values():
        each.stop()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A running ComfyUI with this pack; where there can be one, on an interpreter with a fixed path. It is killed in the end.

    (Imported here: the engine's tests need nothing of it.)
    """
    from harness.comfyui import Server, find_comfyui
    from harness.wan_loras import write_for_bundled
    from tests import fixed_path

    base = tmp_path_factory.mktemp("comfyui")
    python = fixed_path.make(base / "python", find_comfyui()) if fixed_path.can_be_made() else sys.executable
    running = Server(base, python)
    write_for_bundled(base / "models" / "loras")
    try:
        running.wait_until_up()
        yield running
        ranks = running.ranks()
    finally:
        running.stop()
    assert all(ends(pid) for pid in ranks), "a rank outlived its server by 5 s"


@pytest.fixture(scope="module")
def released(server, tmp_path_factory):
    """The files that the shared workflows of released models name, tiny ones, in the server's folders meanwhile."""
    from harness import released_files

    files = released_files.write(server.base / "models", server.base / "input", tmp_path_factory.mktemp("released"))
    yield files
    for file in files:
        file.unlink()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A tiny random model folder; its VAE halves height and width."""
    return builders.text_to_video_folder(tmp_path_factory.mktemp("tiny"))


def files_here() -> set[Path]:
    """Return the files of the repository, but for those of git, of tools' caches and of `make`."""
    skipped = {".git", ".venv", ".venv-oldest", "__pycache__", ".ruff_cache", ".mypy_cache", "build", "demo", "bench"}
    folders = [path for path in ROOT.iterdir() if path.name not in skipped]
    inside = [file for folder in folders if folder.is_dir() for file in folder.rglob("*") if "__pycache__" not in file.parts]
    return {*folders, *inside}


def processes_of(mark: str) -> list[int]:
    """Return every process, of any parent, whose environment holds a mark; multiprocessing's own ends with this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"resource_tracker" in (folder / "cmdline").read_bytes():
                continue
            if f"{mark}\0".encode() in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        except OSError:
            pass  # it ended meanwhile, or is not ours
    return found


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left():
    """After the last test: no process that a test started runs, and no file is new. (First, so torn down last.)"""
    before, mark = files_here(), f"VIDEO_INFINITY_TESTS={os.getpid()}"
    os.environ.update([mark.split("=")])
    yield
    left = [pid for pid in processes_of(mark) if not ends(pid)]
    assert not left, f"processes left behind: {left}"
    assert files_here() == before, f"files left behind: {sorted(files_here() - before)}"


@pytest.fixture(scope="session")
def wan(tmp_path_factory) -> Path:
    """A tiny random Wan folder, with two nets."""
    return wan_builders.wan_folder(tmp_path_factory.mktemp("wan"), two_nets=True)
