"""A job that is stopped: heard soon, the model as it was, and the rest of it the same from a snapshot."""

import json
import shutil

import pytest
import torch

from parallel.families import folder
from parallel.job.errors import Stopped
from parallel.job.job import Job, Prompt, Tuning, checked
from parallel.sampler import interrupt, load
from parallel.sampler.generate import Blocks, generate
from parallel.wire.snapshot import Snapshot, shapes
from tests.test_sampler import ALONE


@pytest.mark.parametrize("phase", ["encode", "decode"])
def test_a_stop_is_heard_in_the_middle_of_the_vae(tiny, monkeypatch, phase):
    """All six frames are decoded at once, and one picture is encoded at once: no step ends before the stop."""
    monkeypatch.setattr(interrupt, "ASK_SECONDS", -1)
    settings = {"prompts": (Prompt(frame=0, text="a"),), "frames": 6, "height": 16, "width": 16, "num_inference_steps": 2}
    job = checked(Job, model=str(tiny), denoise=0.5, **settings)
    model, said = load.load(folder.check(job, 1), torch.float32), []
    blocks = Blocks(torch.zeros(4, 6, 8, 8), torch.zeros(6, 16, 16, 3), init=torch.rand(6, 16, 16, 3))
    with pytest.raises(Stopped):
        stopping = lambda: said[-1][0] == phase  # noqa: E731
        generate(model, job, blocks, ALONE, report=lambda *step: said.append(step), stopping=stopping)
    assert said[-1] == (phase, 0, 1 if phase == "encode" else 6) and not blocks.frames_THWC.any()
    assert not any(layer._forward_pre_hooks for layer in model.vae.modules())


def test_the_model_is_whole_again_after_a_job_and_after_a_stop(tiny):
    job = checked(
        Job, model=str(tiny), prompts=(Prompt(frame=0, text="a"),), frames=4, height=16, width=16, num_inference_steps=3
    )
    model = load.load(folder.check(job, 1), torch.float32)
    before = {name: type(module) for name, module in model.unet.named_modules()}
    processors = {name: type(p) for name, p in model.unet.attn_processors.items()}
    blocks = Blocks(torch.zeros(4, 4, 8, 8))
    said = []
    with pytest.raises(Stopped, match="stopped between two steps"):
        generate(
            model, job, blocks, ALONE, report=lambda *step: said.append(step), stopping=lambda: said[-1][:2] == ("denoise", 1)
        )
    generate(model, job, blocks, ALONE, report=lambda *_: None, stopping=lambda: False)
    assert {name: type(module) for name, module in model.unet.named_modules()} == before
    assert {name: type(p) for name, p in model.unet.attn_processors.items()} == processors
    assert all(not module._forward_pre_hooks for module in model.unet.modules())


@pytest.mark.parametrize(
    "kind, tuning",
    [
        *[(kind, Tuning()) for kind in ("dpmpp_2m", "uni_pc", "euler", "euler_ancestral", "ddim", "sde")],
        ("uni_pc", Tuning(reuse_every=4)),
    ],
)
def test_a_run_that_goes_on_from_a_snapshot_makes_the_same_video(tiny, tmp_path, kind, tuning):
    """Multistep schedulers too: without what they remember of earlier steps the rest would be another."""
    folder_ = tiny
    if kind == "sde":
        folder_ = shutil.copytree(tiny, tmp_path / "sde")
        file = folder_ / "scheduler" / "scheduler_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "algorithm_type": "sde-dpmsolver++"}))
    name = "dpmpp_2m" if kind == "sde" else kind
    values = {"prompts": (Prompt(frame=0, text="a cat"),), "frames": 4, "height": 16, "width": 16, "num_inference_steps": 7}
    job = checked(Job, model=str(folder_), scheduler=name, tuning=tuning, **values)
    inspected = folder.check(job, 1)
    model = load.load(inspected, torch.float32)

    def blocks(kept: Snapshot, resume: int = 0) -> Blocks:
        return Blocks(torch.zeros(4, 4, 8, 8), snapshot=kept, resume=resume)

    def empty() -> Snapshot:
        planes, marks = shapes((4, 4, 8, 8), inspected.history(name))
        return Snapshot(torch.zeros(planes), torch.zeros(marks, dtype=torch.int64))

    whole, first, kept = blocks(empty()), blocks(empty()), empty()
    seen: list[int] = []
    quiet = {"report": lambda phase, step, steps: seen.append(step) if phase == "denoise" else None}
    generate(model, job, whole, ALONE, **quiet, stopping=lambda: False)
    assert whole.snapshot.whole() == 7
    seen.clear()
    with pytest.raises(Stopped):
        generate(model, job, first, ALONE, **quiet, stopping=lambda: seen[-1:] == [4])
    step, planes = first.snapshot.copy()
    assert step == 4
    kept.write_video(step, planes)
    rest = blocks(kept, resume=4)
    seen.clear()
    generate(model, job, rest, ALONE, **quiet, stopping=lambda: False)
    assert seen == [4, 5, 6, 7]
    assert (rest.latents_CTHW - whole.latents_CTHW).abs().max() < 1e-5
