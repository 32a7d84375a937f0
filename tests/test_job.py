import json

import pytest
from pydantic import ValidationError

from parallel.job.errors import JobRefused
from parallel.job.job import Job, Prompt, checked

GOOD = {"model": "m", "prompts": (Prompt(frame=0, text="a"),), "frames": 10, "height": 64, "width": 64}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frames": 0}, "frames: wanted greater than or equal to 1, got 0"),
        ({"frames": 10**9}, "frames: wanted less than or equal to 1000000, got 1000000000"),
        ({"guidance_scale": float("nan")}, "guidance_scale: wanted a finite number, got nan"),
        ({"seed": -1}, "seed: wanted greater than or equal to 0, got -1"),
        ({"denoise": 0.0}, "denoise: wanted greater than 0, got 0.0"),
        (
            {"scheduler": "heun"},
            "scheduler: wanted 'model', 'ddim', 'dpmpp_2m', 'uni_pc', 'euler' or 'euler_ancestral', got 'heun'",
        ),
        (
            {"prompts": (Prompt(frame=3, text="a"),)},
            "prompts: the first one must start at frame 0, got frame 3: add a prompt at 0",
        ),
        (
            {"prompts": tuple(Prompt(frame=f, text="a") for f in (0, 5, 2))},
            "prompts: frame 2 comes after frame 5: sort them, one prompt a frame",
        ),
        (
            {"prompts": tuple(Prompt(frame=f, text="a") for f in (0, 10))},
            "prompts: frame 10 is past the end of a video of 10 frames: use frames 0 to 9",
        ),
        ({"noise": {"kind": "pink"}}, "noise.kind: wanted 'independent', 'shuffled' or 'mixed', got 'pink'"),
        ({"noise": {"share": 1.5}}, "noise.share: wanted less than or equal to 1, got 1.5"),
        ({"noise": {"stride": 0}}, "noise.stride: wanted greater than or equal to 1, got 0"),
        (
            {"noise": {"window": 18}},
            "noise: wanted a window that is a multiple of the stride 4, got 18: use 16",
        ),
        (
            {"noise": {"window": 3, "stride": 5}},
            "noise: wanted a window that is a multiple of the stride 5, got 3: use 5",
        ),
        ({"colour": 1}, "colour: wanted Extra inputs are not permitted, got 1"),
    ],
)
def test_a_wrong_job_is_refused_in_words(change, message):
    with pytest.raises(JobRefused) as refused:
        checked(Job, **{**GOOD, **change})
    assert str(refused.value) == message


def test_a_job_of_before_there_were_kinds_of_noise_is_read():
    job = checked(Job, **GOOD)
    before = job.model_dump(mode="json")
    del before["noise"]
    assert Job.model_validate_json(json.dumps(before)) == job and job.noise.kind == "independent"


def test_a_job_can_not_be_changed():
    with pytest.raises(ValidationError):
        checked(Job, **GOOD).frames = 3
