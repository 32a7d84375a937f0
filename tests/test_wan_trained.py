"""Law 1 on the bundled Wan, full sampling: latents, and the frames of a decode that is cut at other places."""

import pytest
import torch

from harness.places import BUNDLED_WAN
from parallel.job.job import Job, Prompt, checked

RED, BLUE = (f"a {what} on a gray background" for what in ("red circle orbiting clockwise", "blue square bouncing vertically"))


def job(**change) -> Job:
    values = {
        "model": str(BUNDLED_WAN),
        "prompts": (Prompt(frame=0, text=RED), Prompt(frame=17, text=BLUE)),
        "fade": 8,
        "frames": 34,
        "height": 64,
        "width": 64,
        "num_inference_steps": 5,
        "seed": 7,
    }
    return checked(Job, **{**values, **change})


@pytest.mark.parametrize("scheduler, guidance, sizes", [("euler", 5.0, (2, 3, 4)), ("uni_pc", 1.0, (3,))])
def test_any_number_of_ranks_makes_the_same_latents_and_frames(pools, scheduler, guidance, sizes):
    work = job(scheduler=scheduler, guidance_scale=guidance)
    one, *others = (pools(size).run(work) for size in (1, *sizes))
    assert torch.isfinite(one.latents).all() and one.frames.std() > 0.05
    assert (one.frames[0] - one.frames[-1]).abs().mean() > 0.02, "two prompts, two pictures"
    for other in others:
        assert (other.latents - one.latents).abs().max() <= 1e-4
        assert (other.frames - one.frames).abs().max() <= 1 / 255
