"""The ways that the study compares: each does what its name says, and only that."""

import pytest
import torch

from benchmarks import ablations, study
from benchmarks.ablations import CLIP, DEFAULT, WAYS, Way
from parallel.job.job import Scope

BY_NAME = {way.name: way for way in WAYS}


def task(way: Way, frames: int = 2 * CLIP):
    return study.job(study.Task(way, frames, 1)).model_copy(update={"num_inference_steps": 2})


def make(way: Way, frames: int = 2 * CLIP) -> torch.Tensor:
    return ablations.make(study.model(), task(way, frames), way, study.ALONE)


@pytest.fixture(scope="module")
def ours() -> torch.Tensor:
    return make(DEFAULT)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def test_the_default_is_what_the_pool_makes(ours, pools):
    made = pools(2).run(task(DEFAULT).model_copy(update={"decode": False})).latents[0]
    assert apart(ours, made) < 1e-4


@pytest.mark.parametrize(
    "name", ["halo off", "attention within clips", "group norm per clip, everywhere", "group norm per clip, convolutions"]
)
def test_what_is_lost_between_clips_is_nothing_on_one_and_something_on_two(ours, ranks, name):
    assert apart(make(BY_NAME[name]), ours) < 1e-5
    cut = torch.cat(ranks("make_way", 2, called=name, frames=2 * CLIP), dim=1)
    whole = torch.cat(ranks("make_way", 2, called="default", frames=2 * CLIP), dim=1)
    assert apart(whole, ours) < 1e-4 and apart(cut, ours) > 1e-2


def test_clips_of_their_own_do_not_see_each_other(ours):
    made = make(BY_NAME["independent clips"])
    assert apart(made, ours) > 1e-2
    assert apart(make(BY_NAME["independent clips"], CLIP), make(DEFAULT, CLIP)) < 1e-5, "one clip is a video"
    assert apart(made[:, :CLIP], make(BY_NAME["independent clips"], CLIP)) < 1e-5, "whatever comes after it"


def test_windows_that_overlap_are_one_stock_call_where_there_is_but_one():
    whole = BY_NAME["whole-video attention"]
    assert apart(make(BY_NAME["overlapping windows"], CLIP), make(whole, CLIP)) < 1e-4
    assert apart(make(BY_NAME["overlapping windows"]), make(whole)) > 1e-2


def test_zero_keys_are_seen_by_frames_near_the_ends(ours):
    assert apart(make(BY_NAME["zero keys past the ends"]), ours) > 1e-3
    narrow = Way("x", by="ghost_keys", scope={"local_context": 0})
    assert apart(make(narrow), make(Way("y", scope={"local_context": 0}))) < 1e-5, "without a local scope none are missed"
    weights = ablations.attend_with_ghosts(
        torch.ones(1, 1, 1, 4), torch.zeros(1, 1, 2, 4), torch.ones(1, 1, 2, 4), torch.zeros(1, 3)
    )
    assert torch.allclose(weights, torch.full((1, 1, 1, 4), 2 / 3)), "one of three keys is a zero"


def test_every_other_way_is_a_setting_of_the_job(ours):
    for way in WAYS:
        if way.by == "ours" and way is not DEFAULT:
            assert ablations.settings(task(DEFAULT), way) != task(DEFAULT), way.name
    scoped = ablations.settings(task(DEFAULT), BY_NAME["global scope off"]).scope
    assert scoped == Scope(local_context=ablations.LOCAL, global_frames=0)
