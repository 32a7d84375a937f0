"""Keyframes in a real ComfyUI: pictures stand where the node says, and the plan tells of them."""

import numpy as np
import pytest

from tests.graphs import LINKS, SOURCES, node, ours, sampler
from tests.test_comfyui import saved


def graph(at: str, *, count: int = 1, frames: int = 6, **change) -> dict:
    """Return a graph whose sampler is given pictures, white ones of another size, and whose frames are saved without loss."""
    lossless = {"filename_prefix": "given", "fps": 8.0, "lossless": True, "quality": 90, "method": "default"}
    return {
        **SOURCES,
        "pictures": node("EmptyImage", width=96, height=80, batch_size=count, color=0xF4F4F4),
        "keyframes": ours("Keyframes", images=("pictures", 0), at=at, strength=1.0),
        "sampler": sampler(frames=frames, keyframes=("keyframes", 0), **change),
        "frames": ours("ClipParallelDecode", model=LINKS["model"], ranks=LINKS["ranks"], latent=("sampler", 0)),
        "save": node("SaveAnimatedWEBP", images=("frames", 0), **lossless),
    }


@pytest.mark.parametrize(
    "at, count, given",
    [
        ("0", 1, {0}),
        ("last", 1, {5}),
        ("0, 0.5s", 2, {0, 4}),
        ("spread", 3, {0, 2, 5}),
        ("last", 2, {4}),
    ],  # of two that are alike the file has one, held
)
def test_pictures_stand_where_they_are_said_to(server, at, count, given):
    seen = server.run(graph(at, count=count))
    assert seen.end == "execution_success", seen.detail
    far = np.abs(saved(server, "given").astype(float) - 244).mean((1, 2, 3))
    assert set(np.flatnonzero(far < 40)) == given, far.round()


def test_long_video_begins_with_its_image(server):
    video = ours(
        "LongVideo",
        model="moving-shapes (bundled)",
        prompt="a red circle",
        width=64,
        height=64,
        frames=4,
        seed=4,
        start_image=("pictures", 0),
    )
    shown = {"pictures": node("EmptyImage", width=64, height=64, batch_size=1, color=0xF4F4F4), "video": video}
    lossless = {"filename_prefix": "begun", "fps": 8.0, "lossless": True, "quality": 90, "method": "default"}
    seen = server.run({**shown, "save": node("SaveAnimatedWEBP", images=("video", 0), **lossless)})
    assert seen.end == "execution_success", seen.detail
    frames = saved(server, "begun").astype(float)
    assert np.abs(frames[0] - 244).mean() < 40 and len(frames) == 4


def test_the_plan_tells_of_keyframes(server):
    plan = ours("VideoPlan", **LINKS, width=64, height=64, frames=96, keyframes=("keyframes", 0), fps=8.0, steps=4, cfg=1.0)
    plan["inputs"] |= {"loop": False, "frame": 40, "planned_ranks": 2, "scheduler": "model"}
    some = {name: part for name, part in graph("0, 5s, last", count=3).items() if name not in ("sampler", "frames", "save")}
    seen = server.run({**some, "plan": plan, "shown": node("PreviewAny", source=("plan", 1))})
    assert seen.end == "execution_success", seen.detail
    (text,) = seen.outputs["shown"]["text"]
    for frame in (0, 40, 95):
        assert f"frame {frame}: given; always in the global scope" in text


@pytest.mark.parametrize(
    "at, count, said",
    [
        ("6", 1, "keyframes: frame 6 is past the end of a video of 6 frames"),
        ("0, 0", 2, "keyframes: frame 0 comes after frame 0"),
        ("0, 1", 3, "at: wanted one place for each of 3 pictures, or one for all, got 2"),
    ],
)
def test_what_can_not_be_is_refused_when_it_is_seen(server, at, count, said):
    seen = server.run(graph(at, count=count))
    assert seen.end == "execution_error" and seen.detail["exception_message"].startswith(said), seen.detail


def test_a_place_that_is_none_is_refused_before_anything_runs(server):
    status, answer = server.post("/prompt", {"prompt": graph("soon")})
    assert status == 400
    assert "at: wanted a frame, seconds such as 1.5s, or last" in str(answer["node_errors"]["keyframes"])
