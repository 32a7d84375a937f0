"""What the plan of a Wan video says is what then happens: messages and bytes of real ranks."""

import pytest

from harness import wan_builders
from parallel.families import folder
from parallel.families.wan_vae_shape import decode_reach
from parallel.job.job import Job, Prompt, Scope, Tuning, checked
from parallel.models import wan_vae
from parallel.plan import plan, sent_bytes, sent_once

NARROW = {"local_context": 8, "global_frames": 12}


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return wan_builders.wan_folder(tmp_path_factory.mktemp("wan"))


def job_of(model, **change) -> Job:
    """Return a job of 11 latents, which two and three ranks cut unevenly; what travels is said, not measured."""
    values = {
        "height": 32, "width": 32, "frames": 41, "num_inference_steps": 2, "scope": Scope(**NARROW), "decode": False,
        "tuning": Tuning(travel="hidden_states"), "prompts": (Prompt(frame=0, text="a cat"),),
    }  # fmt: skip
    return checked(Job, **{**values, "model": str(model), **change})


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"tuning": Tuning(travel="keys_values"), "dtype": "bfloat16"},
        {"guidance_scale": 1.0},
        {"loop": True},
        {"scope": Scope(**NARROW, rotate=True), "num_inference_steps": 3},
        {"scope": Scope(**NARROW, full_windows=True)},
        {"scope": Scope(**NARROW, full_windows=True, rotate=True), "loop": True},
        {"scope": Scope(), "decode": True},
    ],
    ids=str,
)
def test_messages_and_bytes_are_those_that_are_sent(model, pools, ranks, change):
    job, inspected = job_of(model, **change), folder.inspect(str(model))
    outline, met = plan(job, ranks), pools(ranks).run(job).ranks
    branches = 1 + (job.guidance_scale > 1)
    steps = [sent_bytes(inspected, job, ranks, step=step) for step in range(job.num_inference_steps)]
    once = sent_once(inspected, job, ranks)
    assert [rank.sent_bytes for rank in met] == [branches * sum(sent) + more for *sent, more in zip(*steps, once)]
    calls = branches * job.num_inference_steps
    assert {rank.messages for rank in met} == {calls * outline.messages_a_call + outline.messages_once}
    assert len(set(map(tuple, steps))) == (job.num_inference_steps if job.scope.rotate else 1), "each step has its own route"
    assert any(once) == job.decode and outline.messages_once == job.decode


@pytest.mark.parametrize("residual", [False, True])
def test_a_vaes_reach_is_that_of_its_convolutions(tmp_path, residual):
    vae = wan_builders.vae(residual)
    found = wan_builders.wan_folder(tmp_path, timed=residual)
    assert folder.inspect(str(found)).decode_reach == wan_vae.decode_reach(vae) == 38
    sizes = folder.inspect(str(found)).vae_sizes
    assert decode_reach(sizes.model_copy(update={"num_res_blocks": 1})) < 38


def test_one_rank_sends_nothing(model):
    job, inspected = job_of(model, decode=True), folder.inspect(str(model))
    assert sent_bytes(inspected, job, 1) == sent_once(inspected, job, 1) == [0] and plan(job, 1).messages_once == 0
