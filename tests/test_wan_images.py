"""Wan from images: what the stock pipelines make of them, on any ranks."""

import pytest
import torch
from diffusers import WanImageToVideoPipeline
from diffusers.pipelines.wan import pipeline_wan_i2v
from PIL import Image

from harness import wan_builders
from parallel.job.job import Job, Keyframe
from tests.test_wan import job_of

FORMS = {
    "2.1": {"images": "first"},
    "2.1 first and last": {"images": "first and last"},
    "2.2 with two nets": {"images": "channels", "two_nets": True},
    "TI2V-5B": {"timed": True},
}
FRAMES = 17  # five latents: two ranks, and three, have uneven clips


@pytest.fixture(scope="session")
def from_images(tmp_path_factory):
    """A function of a form's name that returns its folder."""
    made = {}

    def folder_of(form):
        if form not in made:
            made[form] = wan_builders.wan_folder(tmp_path_factory.mktemp("images"), **FORMS[form])
        return made[form]

    return folder_of


def pictures(count: int, size: int = 32, seed: int = 0) -> torch.Tensor:
    """Return pictures of a few soft spots, uint8 (F, H, W, 3)."""
    small = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(small, size=(size, size), mode="bilinear")
    return (large * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def image_job(model, *frames: int, **change) -> Job:
    keyframes = tuple(Keyframe(frame=frame) for frame in frames)
    return job_of(model, **{"frames": FRAMES, "keyframes": keyframes, **change})


def stock(job: Job, noise: torch.Tensor, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (latents, frames) that the stock pipeline makes of the same noise and images."""
    pipeline = WanImageToVideoPipeline.from_pretrained(job.model)
    pipeline.set_progress_bar_config(disable=True)
    image, *last = (Image.fromarray(each.numpy()) for each in images)
    call = {
        "image": image, "last_image": last[0] if last else None, "prompt": job.prompts[0].text, "negative_prompt": job.negative,
        "height": job.height, "width": job.width, "num_frames": job.frames, "num_inference_steps": job.num_inference_steps,
        "guidance_scale": job.guidance_scale, "latents": noise, "max_sequence_length": pipeline.tokenizer.model_max_length,
    }  # fmt: skip
    return pipeline(**call, output_type="latent").frames, pipeline(**call, output_type="pt").frames[0].permute(0, 2, 3, 1)


@pytest.mark.parametrize("form", FORMS)
def test_anchor_a_video_from_images_is_the_stock_pipelines(from_images, pools, monkeypatch, form):
    monkeypatch.setattr(pipeline_wan_i2v, "prompt_clean", str)  # by a package, ftfy, that does nothing to these prompts
    size = 64 if form == "TI2V-5B" else 32
    frames = (0, FRAMES - 1) if form == "2.1 first and last" else (0,)
    job = image_job(from_images(form), *frames, height=size, width=size)
    images = pictures(len(frames), size)
    empty = job.model_copy(update={"num_inference_steps": 0, "keyframes": (), "decode": False})
    noise = pools(1).run(empty).latents.clone()
    expected, shown = stock(job, noise, images)
    for ranks in (1, 2, 3):
        got = pools(ranks).run(job, keyframes=images)
        assert (got.latents - expected).abs().max() <= 1e-5, ranks
        assert (got.frames - shown).abs().max() <= 1 / 255 and got.frames.std() > 0.01, ranks
