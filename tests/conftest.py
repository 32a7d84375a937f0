"""Fixtures: warm ranks and warm pools, shared by all tests, and a check that nothing is left behind."""

import os
from pathlib import Path

import pytest
import torch

from parallel.pool import Pool
from tests import builders
from tests.ranks import Ranks

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ROOT / "assets" / "moving-shapes"


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU that torch can use"))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Ranks and the test itself share few cores; one thread each is fastest and the same everywhere."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ranks():
    with_ranks = Ranks()
    yield with_ranks
    with_ranks.close()


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
    """A running ComfyUI with this pack. (Imported here: the engine's tests need nothing of it.)"""
    from tests.comfyui import Server

    running = Server(tmp_path_factory.mktemp("comfyui"))
    try:
        running.wait_until_up()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A tiny random model folder; its VAE halves height and width."""
    return builders.text_to_video_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left():
    """After the last test: no child process of ours runs. (Listed before `ranks` and `pools`, so torn down after them.)"""
    yield
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if children.exists():
        left = [pid for pid in children.read_text().split() if b"parallel.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert not left, f"rank processes left behind: {left}"
