"""The study of the small Wan: its ways are what they say, and its figures see what they are there to see."""

import json
import math

import pytest
import torch

from benchmarks import loop_metrics, wan_coherence, wan_quality_page, wan_study, wan_ways
from benchmarks.wan_images import GIVEN, WINDOWS
from benchmarks.wan_study import TRAINED, Task
from benchmarks.wan_ways import DEFAULT, DENSE, INDEPENDENT, MAIN, SPLITS, Way
from parallel.maths import rotary
from parallel.maths.scope import Span
from scripts.shapes import Scene, draw_scene, render

SCENE = draw_scene(("circle", "red", "gray", "orbiting clockwise"), torch.Generator().manual_seed(0))


def video(scene: Scene, frames: int) -> torch.Tensor:
    return render(scene, torch.arange(frames)).permute(0, 2, 3, 1)


def made(way: Way, latents: int) -> torch.Tensor:
    torch.set_num_threads(1)
    caption = wan_study.scenes()[0].caption
    job = wan_ways.job_of(way, caption, latents=latents, seed=0).model_copy(update={"num_inference_steps": 2})
    return wan_ways.make(wan_study.model(), job, way)


@pytest.fixture(scope="module")
def dense() -> torch.Tensor:
    return made(DENSE, 12)


@pytest.mark.parametrize("way", [way for way in MAIN if way not in (DENSE, INDEPENDENT)], ids=lambda way: way.name)
def test_each_way_makes_another_video_than_dense_attention(way, dense):
    frames = made(way, 12)
    assert frames.shape == dense.shape == (45, 64, 64, 3) and frames.isfinite().all()
    assert (frames - dense).abs().max() > 1e-3


def test_at_the_trained_length_a_window_that_sees_all_is_dense_attention():
    wide = Way("wide", scope=wan_ways.scopes(2 * TRAINED + 1, 0))
    assert torch.equal(made(wide, TRAINED), made(DENSE, TRAINED))


def test_independent_clips_are_as_long_as_the_video_that_they_stand_for():
    frames = made(INDEPENDENT, 12)
    assert len(frames) == 45 and wan_ways.borders(INDEPENDENT, 12) == (33,)
    assert wan_ways.borders(DEFAULT, 20) == (33, 69) and wan_ways.borders(DEFAULT, TRAINED) == ()


def test_what_riflex_changes_is_put_back():
    before = rotary.angles(torch.arange(3), 12)
    made(MAIN[2], 10)
    assert MAIN[2].by == "riflex" and torch.equal(rotary.angles(torch.arange(3), 12), before)


def test_splits_have_the_keys_of_their_budget():
    for way in SPLITS:
        local, spread = way.scope["local_context"] // 4, way.scope["global_frames"] // 4
        assert way.name == f"{2 * local + 1} local + {spread} global"
    counts = [2 * (way.scope["local_context"] // 4) + 1 + way.scope["global_frames"] // 4 for way in SPLITS]
    assert min(counts) <= 0.5 * TRAINED + 1 and max(counts) == 3 * TRAINED


def test_a_video_that_repeats_itself_is_seen_to_and_one_that_does_not_is_not():
    loop = video(SCENE, 120)  # its period is 24 frames
    again = loop_metrics.self_likeness(loop, 40)
    assert again["repeats"] < 0.1 and again["repeats after"] == 48
    noise = torch.rand(120, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    assert loop_metrics.self_likeness(noise, 40)["repeats"] > 0.95
    assert math.isnan(loop_metrics.self_likeness(noise[:60], 40)["repeats"])


def test_a_return_to_the_first_frame_is_seen():
    noise = torch.rand(120, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    assert 0.9 < loop_metrics.return_to_first(noise, (60, 90), 33) < 1.1
    noise[[60, 90]] = noise[0].clone()
    assert loop_metrics.return_to_first(noise, (60, 90), 33) == 0
    assert loop_metrics.likeness_to_first(torch.linspace(0, 1, 11).view(-1, 1, 1, 1).expand(-1, 2, 2, 3), 11)[
        -1
    ] == pytest.approx(255)


def test_the_page_is_written_of_a_study_and_says_pace_against_the_trained_length(monkeypatch):
    slow = video(SCENE, 141).repeat_interleave(2, dim=0)[:141]
    tasks = [
        (Task(DENSE, TRAINED, 0), video(SCENE, 33)),
        (Task(DEFAULT, 36, 0), slow),
        (Task(INDEPENDENT, 36, 0), video(SCENE, 141)),
    ]
    monkeypatch.setattr(wan_study, "scenes", lambda: [SCENE])
    read = [wan_study.read(task, frames) for task, frames in tasks]
    for row in read:
        assert row.pop("pictures").shape == (12, 64, 64, 3)
    found = wan_coherence.sum_up(json.loads(json.dumps(read)))
    assert found["independent clips, 4x"]["pace"][0] == pytest.approx(1, abs=0.05)
    assert found["default, 4x"]["pace"][0] < 0.6 and found["default, 4x"]["identity"][0] == 1
    assert [claim.holds for claim in wan_coherence.claims(found, quick=True, minutes=1)][1:] == [False, True]
    content = {
        "date": "today",
        "machine": "this",
        "seconds": 60,
        "claims": {},
        "data": {"table": json.loads(json.dumps(found)), "steps": 10},
    }
    row = {"shown": 1.0, "seam position": [0.9, 0.5], "seam picture": None, "return": 0.9, "drift": 0.1, "unclear": 0.0}
    images = {"shares": {"first frame kept": 0.5}, "rows": {**{name: [row] for name in GIVEN}, WINDOWS: []}}
    page = wan_quality_page.write(
        content, images, "{at[default, 4x: identity]}\n{moving}\n{images}\n{image_shares[first frame kept]}"
    )
    assert page.startswith("1\n| way | length |") and "| start | 1 | 1 | 0.9 (p 0.5) | - | 0.9 | 0.1 | 0 |" in page
    assert page.endswith("50%")


def test_reencoded_places_are_in_order_and_within_what_was_trained():
    keys = wan_ways.reencoded(20, Span(60, 0, 0), "true")
    assert keys.frames == (9, 11, 13, 15, 17, 18, 19, 20, 21, 22, 23, 25, 27, 29, 31)
    assert keys.places == tuple(range(13, 28)) and len(keys.frames) == len(keys.is_local)
    assert wan_ways.reencoded(0, Span(60, 0, 0), "true").frames == (0, 1, 2, 3, 5, 7, 9, 11)
