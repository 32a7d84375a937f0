"""Numbers that overflow, or are not finite for another reason: one error that says where and what would do."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from parallel.families import folder
from parallel.job.errors import Overflowed
from parallel.job.job import Job, Prompt, checked
from parallel.sampler import load
from parallel.sampler.denoise import denoise
from parallel.sampler.generate import Blocks, generate
from parallel.wire.snapshot import Snapshot, shapes
from tests.test_sampler import ALONE, run


def louder(model_folder, copy, part, weight):
    """Return a copy of a model whose numbers are too large for half precision from one layer on."""
    model = shutil.copytree(model_folder, copy)
    (file,) = (model / part).glob("*.safetensors")
    weights = load_file(file)
    (name,) = (name for name in weights if name.endswith(weight))  # some versions have a prefix
    save_file({**weights, name: weights[name] * 1e6}, file, metadata={"format": "pt"})
    return model


@pytest.mark.parametrize(
    "part, weight, place",
    [
        ("text_encoder", "final_layer_norm.weight", "while the text encoder read the prompts"),
        ("vae", "encoder.conv_out.weight", "while the VAE encoded the init"),
        ("unet", "conv_out.weight", "at step 1 of 2"),
        ("vae", "decoder.conv_out.weight", "while the VAE decoded"),
    ],
)
def test_an_overflow_is_named_with_the_type_that_would_do(tiny, tmp_path, part, weight, place):
    loud = louder(tiny, tmp_path / "loud", part, weight)
    settings = {"num_inference_steps": 4, "denoise": 0.5, "init": torch.rand(6, 16, 16, 3)}
    with pytest.raises(Overflowed) as overflowed:
        run(loud, dtype="float16", **settings)
    assert str(overflowed.value) == f"the numbers overflowed in float16 {place}: use dtype bfloat16 or float32"
    latents, frames = run(loud, dtype="bfloat16", **settings)
    assert torch.isfinite(latents).all() and torch.isfinite(frames).all()


@pytest.mark.parametrize("dtype, said", [("bfloat16", "use dtype float32, and if"), ("float32", "and not for want of a wider")])
def test_a_step_that_is_not_finite_is_neither_shown_nor_kept(tiny, monkeypatch, dtype, said):
    def broken(*arguments, **options):
        for step, latents in enumerate(denoise(*arguments, **options), start=1):
            yield latents if step < 3 else latents.where(latents < latents.max(), torch.nan)

    monkeypatch.setattr("parallel.sampler.sample.denoise", broken)
    job = checked(Job, model=str(tiny), prompts=(Prompt(frame=0, text="a"),), frames=4, height=16, width=16, dtype=dtype)
    planes, marks = shapes((4, 4, 8, 8), 0)
    kept = Snapshot(torch.zeros(planes), torch.zeros(marks, dtype=torch.int64))
    blocks = Blocks(torch.zeros(4, 4, 8, 8), snapshot=kept)
    model = load.load(folder.check(job, 1), getattr(torch, dtype))
    with pytest.raises(Overflowed, match=rf"^the numbers are not finite .*at step 3 of 20.*{said}"):
        generate(model, job, blocks, ALONE, report=lambda *_: None, stopping=lambda: False)
    assert kept.whole() == 2 and torch.equal(kept.read_clip(2, range(4))[0][0], blocks.latents_CTHW)
    assert torch.isfinite(kept.planes).all()
