"""A real ComfyUI under pressure: prompts that queue, cancels in every phase, many runs in a row. (Unloading: test_restarts.py.)"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from harness import pressure
from tests.test_comfyui import quick, saved, short

WORKFLOW = "prompt_timeline"


@pytest.fixture(scope="module")
def right(server):
    """The frames of the run that every other one is compared with."""
    assert server.run(quick(seed=60, steps=2)).end == "execution_success"
    return saved(server, WORKFLOW)


def check(server, right: np.ndarray, fade: int) -> None:
    """A run after the pressure is right. Another fade, which one prompt does not show, makes ComfyUI run it again."""
    prompt = quick(seed=60, steps=2)
    prompt["timeline"]["inputs"]["negative"] = " " * fade
    assert server.run(prompt).end == "execution_success"
    assert np.abs(saved(server, WORKFLOW).astype(int) - right.astype(int)).max() <= 1


def once(server, path: str, when: Callable[[str, float], bool]):
    """Return a listener that posts to the server the first time that `when` is true of the progress."""
    asked = []

    def listen(node: str, share: float) -> None:
        if when(node, share) and not asked:
            asked.append(share)
            server.post(path, {"unload_models": True} if path == "/free" else {})

    return listen


def test_two_prompts_at_once_are_made_one_after_the_other(server, right):
    with ThreadPoolExecutor() as threads:
        both = [threads.submit(server.run, quick(seed=seed, steps=2)) for seed in (61, 62)]
        assert [run.result().end for run in both] == ["execution_success"] * 2
    assert len(server.ranks()) == 2
    check(server, right, 1)


def test_a_prompt_that_comes_while_a_cancel_is_under_way_is_made(server, right):
    with ThreadPoolExecutor() as threads:
        after = []

        def cancel_and_queue(node: str, share: float) -> None:
            if node == "sampler" and share > 0.01 and not after:
                server.post("/interrupt", {})
                after.append(threads.submit(server.run, quick(seed=63, steps=2)))

        assert server.run(quick(seed=64, steps=400), cancel_and_queue).end == "execution_interrupted"
        assert after[0].result().end == "execution_success"
    check(server, right, 2)


def test_a_cancel_while_encoding_leaves_the_ranks_warm(server, right):
    prompt = short("refine_video", seed=66)
    encoder = next(name for name, node in prompt.items() if node["class_type"] == "VideoInfinityClipParallelEncode")
    for node in prompt.values():
        node["inputs"].update({"frames": 150} if "frames" in node["inputs"] else {})
        node["inputs"].update({"steps": 1} if "steps" in node["inputs"] else {})
    seen = server.run(prompt, once(server, "/interrupt", lambda node, share: node == encoder))
    assert seen.end == "execution_interrupted" and seen.detail["node_id"] == encoder
    assert len(server.ranks()) == 2
    check(server, right, 4)


def test_runs_with_cancels_at_random_moments_are_right_and_leak_nothing(server):
    came = pressure.run(server, 6, longest_wait=1.0)
    assert came.wrong == 0 and came.finished >= 3
    first, last = came.counts[1], came.counts[-1]
    assert last.ranks == 2 and last.descriptors <= first.descriptors + 4 and last.blocks <= first.blocks + 2
