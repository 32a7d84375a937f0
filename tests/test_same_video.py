"""Law 1: the video is a function of the job, not of the ranks. The bundled model, full sampling, real pools of gloo ranks."""

import pytest
import torch
from diffusers import TextToVideoSDPipeline

from harness.places import BUNDLED
from parallel.job.job import Job, Prompt, Scope, checked
from parallel.maths.noise import draw_frames

STEPS = 12
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


@pytest.mark.parametrize("scheduler", ["ddim", "dpmpp_2m", "euler_ancestral"])
def test_any_number_of_ranks_makes_the_same_video(pools, scheduler):
    one, *others = (pools(size).run(job(scheduler=scheduler)).latents for size in (1, 2, 3, 4))
    assert one.std() > 0.3 and torch.isfinite(one).all()
    assert (one[:, :, 0] - one[:, :, -1]).abs().mean() > 0.1, "two prompts, two pictures"
    for other in others:
        assert (other - one).abs().max() <= 1e-4


def test_phases_scales_and_a_narrow_scope_make_the_same_video(pools):
    scope = Scope(
        local_context=3, global_frames=5, local_bias=(0, 2), global_bias=(2, 0), phase_timestep=500, trained_frames=16
    )
    settings = {"scope": scope, "scheduler": "uni_pc", "frames": 13, "num_inference_steps": 6}
    settings["prompts"] = (Prompt(frame=0, text=RED),)
    one, three = (pools(size).run(job(**settings, decode=True)) for size in (1, 3))
    assert (three.latents - one.latents).abs().max() <= 1e-4
    assert (three.frames - one.frames).abs().max() <= 1e-4
    ramp = scope.model_copy(update={"ramp": True})
    assert not torch.allclose(pools(1).run(job(**{**settings, "scope": ramp})).latents, one.latents, atol=1e-2)


def test_any_kind_of_noise_makes_the_same_video(pools):
    """Clips of 17, 17 and 16 frames: the runs of 4 of shuffled noise lie across both cuts."""
    settings = {"num_inference_steps": 4, "scheduler": "ddim"}
    plain = pools(1).run(job(**settings)).latents
    for noise in ({"kind": "shuffled", "window": 8, "stride": 4}, {"kind": "mixed", "share": 0.3}):
        one, three = (pools(size).run(job(**settings, noise=noise)).latents for size in (1, 3))
        assert (three - one).abs().max() <= 1e-4, noise
        assert not torch.allclose(plain, one, atol=0.1), noise


def test_in_a_loop_rolled_noise_makes_the_rolled_video(ranks):
    scope = Scope(local_context=4, global_frames=0)
    looped = job(prompts=(Prompt(frame=0, text=RED),), frames=31, scope=scope, loop=True, scheduler="ddim")
    noise = draw_frames(3, range(31), (4, 8, 8))
    one = torch.cat(ranks("sample_from", 1, job=looped, noise=noise), dim=2)
    for turn in (1, 11):
        rolled = torch.cat(ranks("sample_from", 3, job=looped, noise=noise.roll(turn, 2)), dim=2)
        assert (rolled - one.roll(turn, 2)).abs().max() <= 1e-4, turn
        assert not torch.allclose(rolled, one, atol=0.1), turn
    open_ended = looped.model_copy(update={"loop": False})
    straight = torch.cat(ranks("sample_from", 3, job=open_ended, noise=noise.roll(11, 2)), dim=2)
    assert not torch.allclose(straight, rolled, atol=0.01), "the ends of an open video have fewer neighbours"


@pytest.mark.parametrize("global_frames", [0, 5])
def test_anchor_three_ranks_that_see_everything_equal_the_stock_pipeline(pools, global_frames):
    settings = {
        "prompts": (Prompt(frame=0, text=RED),),
        "frames": 16,
        "scope": Scope(local_context=16, global_frames=global_frames),
        "decode": True,
    }
    noise = pools(3).run(job(**settings, num_inference_steps=0)).latents
    ours = pools(3).run(job(**settings))
    pipeline = TextToVideoSDPipeline.from_pretrained(BUNDLED, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    call = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "num_frames": 16, "latents": noise}
    stock = pipeline(RED, height=64, width=64, **call, output_type="latent").frames
    assert (ours.latents - stock).abs().max() <= 1e-4
    pictures = pipeline.decode_latents(stock)[0].permute(1, 2, 3, 0) / 2 + 0.5
    assert (ours.frames - pictures.clamp(0, 1)).abs().max() <= 1e-4


def test_the_bundled_model_is_small_and_loads_as_the_card_says():
    files = [file for file in BUNDLED.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 16 * 10**6
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".md", ".txt"}
    pipeline = TextToVideoSDPipeline.from_pretrained(BUNDLED)
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline(RED, num_frames=4, num_inference_steps=2, output_type="pt").frames
    assert frames.shape == (1, 4, 3, 64, 64)
