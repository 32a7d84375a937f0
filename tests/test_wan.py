"""Wan on one rank against the stock pipeline, and on several against one."""

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


def run(job: Job, group: Group = ALONE, init=None):
    """Return (latents, frames) of a job on one rank in this process."""
    model = table.load(folder.check(job, 1), getattr(torch, job.dtype))
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
