"""Law 1: the video is a function of the job, not of the ranks. Full sampling, real pools of gloo ranks.

On the tiny model, whose random weights hide no layer: every scheduler, every kind of noise, the loop. On the bundled one: a
scheduler that remembers earlier steps, another with phases and a narrow scope, and the stock pipeline.
"""

from typing import get_args

import pytest
import torch
from diffusers import TextToVideoSDPipeline

from harness.places import BUNDLED
from parallel.job.job import Job, Prompt, Scheduler, Scope, checked
from parallel.maths.noise import draw_frames

STEPS = 3
RED, BLUE = (f"a {what} on a gray background" for what in ("red circle orbiting clockwise", "blue square bouncing vertically"))


def job(**change) -> Job:
    values = {
        "model": str(BUNDLED),
        "prompts": (Prompt(frame=0, text=RED), Prompt(frame=23, text=BLUE)),
        "fade": 4,
        "frames": 50,
        "height": 64,
        "width": 64,
        "num_inference_steps": STEPS,
        "guidance_scale": 4.0,
        "seed": 7,
        "scope": Scope(local_context=30, global_frames=7),  # wider than any clip but the whole video's
        "decode": False,
    }
    return checked(Job, **{**values, **change})


def tiny_job(tiny, **change) -> Job:
    """Return the same job, small enough to be made many times."""
    values = {
        "model": str(tiny),
        "prompts": (Prompt(frame=0, text="a cat"), Prompt(frame=6, text="a dog")),
        "frames": 14,
        "height": 16,
        "width": 16,
        "num_inference_steps": 3,  # a scheduler of order 2 begins with one of order 1, and may end with one
        "scope": Scope(local_context=9, global_frames=4),
    }
    return job(**{**values, **change})


def check(pools, work: Job, sizes: tuple[int, ...] = (1, 2, 3, 4)) -> None:
    """Make a video on one rank and on others, of which three and four have clips of two lengths."""
    one, *others = (pools(size).run(work).latents for size in sizes)
    assert one.std() > 0.3 and torch.isfinite(one).all()
    assert (one[:, :, 0] - one[:, :, -1]).abs().mean() > 0.1, "two prompts, two pictures"
    for other in others:
        assert (other - one).abs().max() <= 1e-4


def test_any_number_of_ranks_makes_the_same_video(pools):
    check(
        pools,
        job(
            scheduler="dpmpp_2m",
            frames=14,
            height=32,
            width=32,
            prompts=(Prompt(frame=0, text=RED), Prompt(frame=6, text=BLUE)),
            num_inference_steps=3,
        ),
    )


@pytest.mark.parametrize("scheduler", get_args(Scheduler))
def test_one_rank_and_three_uneven_ones_make_the_same_video_with_any_scheduler(tiny, pools, scheduler):
    check(pools, tiny_job(tiny, scheduler=scheduler, guidance_scale=1.0), sizes=(1, 3))


def test_any_number_of_ranks_makes_the_same_loop(tiny, pools):
    check(pools, tiny_job(tiny, scheduler="euler_ancestral", loop=True), sizes=(1, 2, 3))


def test_phases_scales_and_a_narrow_scope_make_the_same_video(pools):
    scope = Scope(
        local_context=3, global_frames=5, local_bias=(0, 2), global_bias=(2, 0), phase_timestep=500, trained_frames=16
    )
    settings = {"scope": scope, "scheduler": "uni_pc", "frames": 13, "num_inference_steps": 3, "height": 32, "width": 32}
    settings["prompts"] = (Prompt(frame=0, text=RED),)
    one, three = (pools(size).run(job(**settings, decode=True)) for size in (1, 3))
    assert (three.latents - one.latents).abs().max() <= 1e-4
    assert (three.frames - one.frames).abs().max() <= 1e-4
    ramp = scope.model_copy(update={"ramp": True})
    assert not torch.allclose(pools(1).run(job(**{**settings, "scope": ramp})).latents, one.latents, atol=1e-2)


def test_any_kind_of_noise_makes_the_same_video(tiny, pools):
    """Clips of 9, 9 and 8 frames: the runs of 4 of shuffled noise lie across both cuts."""
    settings = {"num_inference_steps": 2, "scheduler": "ddim", "frames": 26, "guidance_scale": 1.0}
    plain = pools(1).run(tiny_job(tiny, **settings)).latents
    for noise in ({"kind": "shuffled", "window": 8, "stride": 4}, {"kind": "mixed", "share": 0.3}):
        one, three = (pools(size).run(tiny_job(tiny, **settings, noise=noise)).latents for size in (1, 3))
        assert (three - one).abs().max() <= 1e-4, noise
        assert not torch.allclose(plain, one, atol=0.1), noise


def test_in_a_loop_rolled_noise_makes_the_rolled_video(tiny, ranks):
    settings = {"scope": Scope(local_context=4, global_frames=0), "loop": True, "scheduler": "ddim", "num_inference_steps": 2}
    looped = tiny_job(tiny, prompts=(Prompt(frame=0, text="a cat"),), frames=13, guidance_scale=1.0, **settings)
    noise = draw_frames(3, range(13), (4, 8, 8))
    one = torch.cat(ranks("sample_from", 1, job=looped, noise=noise), dim=2)
    for turn in (1, 6):
        rolled = torch.cat(ranks("sample_from", 3, job=looped, noise=noise.roll(turn, 2)), dim=2)
        assert (rolled - one.roll(turn, 2)).abs().max() <= 1e-4, turn
        assert not torch.allclose(rolled, one, atol=0.1), turn
    open_ended = looped.model_copy(update={"loop": False})
    straight = torch.cat(ranks("sample_from", 3, job=open_ended, noise=noise.roll(6, 2)), dim=2)
    assert not torch.allclose(straight, rolled, atol=0.01), "the ends of an open video have fewer neighbours"


ANCHOR = {"prompts": (Prompt(frame=0, text=RED),), "frames": 16, "decode": True}


@pytest.fixture(scope="module")
def stock(pools) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents and frames of the stock pipeline, from our noise."""
    noise = pools(3).run(job(**ANCHOR, num_inference_steps=0)).latents
    pipeline = TextToVideoSDPipeline.from_pretrained(BUNDLED, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    call = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "num_frames": 16, "latents": noise}
    latents = pipeline(RED, height=64, width=64, **call, output_type="latent").frames
    pictures = pipeline.decode_latents(latents)[0].permute(1, 2, 3, 0) / 2 + 0.5
    return latents, pictures.clamp(0, 1)


@pytest.mark.parametrize("global_frames", [0, 5])
def test_anchor_three_ranks_that_see_everything_equal_the_stock_pipeline(pools, stock, global_frames):
    latents, frames = stock
    ours = pools(3).run(job(**ANCHOR, scope=Scope(local_context=16, global_frames=global_frames)))
    assert (ours.latents - latents).abs().max() <= 1e-4
    assert (ours.frames - frames).abs().max() <= 1e-4


def test_the_bundled_model_is_small_and_loads_as_the_card_says():
    files = [file for file in BUNDLED.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 16 * 10**6
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".md", ".txt"}
    pipeline = TextToVideoSDPipeline.from_pretrained(BUNDLED)
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline(RED, num_frames=4, num_inference_steps=2, output_type="pt").frames
    assert frames.shape == (1, 4, 3, 64, 64)
