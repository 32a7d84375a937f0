"""Wan on one rank against the stock pipeline, and on several against one."""

from functools import cache

import pytest
import torch
from diffusers import WanPipeline

from harness import wan_builders
from parallel.comm.group import Group
from parallel.families import folder
from parallel.job.job import Job, Prompt, Scope, checked
from parallel.models import table
from parallel.sampler.generate import Blocks, generate

ALONE = Group(0, 1, torch.device("cpu"))
VARIANTS = {"2.1": {}, "2.2 with two nets": {"two_nets": True}, "TI2V-5B": {"timed": True}}
SIZE = {"2.1": 32, "2.2 with two nets": 32, "TI2V-5B": 64}


@pytest.fixture(scope="session", params=VARIANTS)
def variant(request, tmp_path_factory):
    return request.param, wan_builders.wan_folder(tmp_path_factory.mktemp("wan"), **VARIANTS[request.param])


def job_of(model, frames=13, **change) -> Job:
    values = {"height": 32, "width": 32, "num_inference_steps": 3, "guidance_scale": 5.0, "scope": Scope(local_context=frames)}
    prompts = (Prompt(frame=0, text="a cat runs"),)
    return checked(Job, **{**values, "model": str(model), "prompts": prompts, "frames": frames, "negative": "a dog", **change})


@cache
def loaded(folder_of_model: str, dtype: torch.dtype):
    """Return a model, which is whole again after each job."""
    return table.load(folder.inspect(folder_of_model), dtype)


def run(job: Job, group: Group = ALONE, init=None):
    """Return (latents, frames) of a job on one rank in this process."""
    model = loaded(job.model, getattr(torch, job.dtype))
    frames = torch.zeros(job.frames, job.height, job.width, 3)
    latents = torch.zeros(model.folder.latents_shape(job))
    generate(model, job, Blocks(latents, frames, init), group, report=lambda *_: None, stopping=lambda: False)
    return latents, frames


def stock(job: Job, noise: torch.Tensor, scheduler=None, **more):
    """Return (latents, frames) that the stock pipeline makes of the same noise."""
    pipeline = WanPipeline.from_pretrained(job.model)
    pipeline.set_progress_bar_config(disable=True)
    if scheduler is not None:
        pipeline.scheduler = scheduler
    call = {
        "prompt": job.prompts[0].text, "negative_prompt": job.negative, "height": job.height, "width": job.width,
        "num_frames": job.frames, "num_inference_steps": job.num_inference_steps, "guidance_scale": job.guidance_scale,
        "latents": noise[None], "max_sequence_length": 8, **more,
    }  # fmt: skip
    return pipeline(**call, output_type="latent").frames[0], pipeline(**call, output_type="pt").frames[0].permute(0, 2, 3, 1)


@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_anchor_a_video_that_sees_everything_is_the_stock_pipelines(variant, guidance):
    name, model = variant
    job = job_of(model, guidance_scale=guidance, height=SIZE[name], width=SIZE[name])
    noise, _ = run(job.model_copy(update={"num_inference_steps": 0}))
    latents, frames = run(job)
    expected, pictures = stock(job, noise)
    assert (latents - expected).abs().max() <= 1e-5
    assert (frames - pictures).abs().max() <= 1 / 255 and frames.std() > 0.01


def narrow(model, **change) -> Job:
    """Return a job of 12 latents that see few others, with two prompts and a fade."""
    values = {
        "frames": 45, "scope": Scope(local_context=8, global_frames=12), "fade": 6, "decode": False,
        "prompts": (Prompt(frame=0, text="a cat runs"), Prompt(frame=21, text="a dog sleeps")),
    }  # fmt: skip
    return job_of(model, **{**values, **change})


@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_any_number_of_ranks_makes_the_same_latents_and_frames(wan, pools, guidance):
    job = narrow(wan, guidance_scale=guidance, decode=True, frames=42, num_inference_steps=4)
    one = pools(1).run(job)
    assert (one.latents[:, :, 0] - one.latents[:, :, -1]).abs().mean() > 0.1
    for size in (2, 3, 4):
        other = pools(size).run(job)
        assert (other.latents - one.latents).abs().max() <= 1e-4, size
        assert (other.frames - one.frames).abs().max() <= 1 / 255 and len(other.frames) == 42, size


@pytest.fixture(scope="module")
def plain(wan, pools) -> torch.Tensor:
    return pools(1).run(narrow(wan)).latents


@pytest.mark.parametrize(
    "change",
    [
        {"scheduler": "euler"},
        {"scheduler": "dpmpp_2m", "shift": 8.0},
        {"loop": True},
        {"scope": Scope(local_context=8, global_frames=12, places="true")},
        {"scope": Scope(local_context=8, global_frames=12, rotate=True)},
        {"scope": Scope(local_context=8, global_frames=12, full_windows=True)},
        {"scope": Scope(local_context=8, global_frames=12, full_windows=True), "loop": True},
        {"scope": Scope(local_context=8, global_frames=12, local_bias=(1.0, 0.0), global_bias=(0.0, 2.0), trained_frames=21)},
        {"tuning": {"travel": "keys_values"}},
        {"noise": {"kind": "shuffled"}},
        {"guidance_scale_2": 1.0},
    ],
    ids=str,
)
def test_each_option_makes_another_video_that_is_the_same_on_three_ranks(wan, pools, plain, change):
    one, three = (pools(size).run(narrow(wan, **change)).latents for size in (1, 3))
    assert (three - one).abs().max() <= 1e-4
    assert torch.allclose(one, plain, atol=1e-4) == ("tuning" in change)
