"""What comes encoded with a job: the same video as with the model's own encoders, which no rank loads then."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import wan_builders
from harness.jobs import job
from parallel.families import folder
from parallel.job.errors import JobRefused, Stopped
from parallel.job.job import Keyframe, Prompt
from parallel.models.table import load
from parallel.pool import snapshot_file
from parallel.pool.snapshot_file import Keeper
from parallel.sampler.encode import encode_tokens, tokenize

PROMPTS = (Prompt(frame=0, text="a cat"), Prompt(frame=5, text="a dog"), Prompt(frame=9, text="a cat"))
TOLD = {"prompts": PROMPTS, "fade": 2, "negative": "runs", "guidance_scale": 3.0, "frames": 13, "height": 32, "width": 32}


def without_weights(model, part: str, other):
    """Return a copy of a model folder in which a part's weights are all zeros."""
    shutil.copytree(model, other)
    file = other / part / "model.safetensors"
    save_file({name: torch.zeros_like(weight) for name, weight in load_file(file).items()}, file, metadata={"format": "pt"})
    return other


def embeddings_of(model, work) -> torch.Tensor:
    """Return what a model's own text encoder makes of a job's texts, (texts, L, D)."""
    loaded = load(folder.inspect(str(model)), torch.float32)
    return encode_tokens(loaded, [tokenize(loaded, text) for text in work.texts])


@pytest.fixture(scope="module")
def mute(wan, tmp_path_factory):
    """The same model with another text encoder, which makes nothing but zeros."""
    return without_weights(wan, "text_encoder", tmp_path_factory.mktemp("mute") / "model")


def test_a_job_with_embeddings_makes_the_video_that_its_own_encoder_makes(wan, mute, pools):
    """On ranks that have never loaded it; the next job, which has none, finds it there."""
    work = job(wan, **TOLD)
    given = embeddings_of(wan, work)
    assert work.texts == ("runs", "a cat", "a dog") and len(given) == 3
    assert load(folder.inspect(str(mute)), torch.float32, reads=False).text_encoder is None
    own = pools(1).run(work).latents
    for ranks in (1, 2):
        made = pools(ranks).run(job(mute, **TOLD), embeddings=given).latents
        assert (made - own).abs().max() < 1e-4
    assert (pools(2).run(job(mute, **TOLD)).latents - own).abs().max() > 1e-3, "without them it is mute"
    again = pools(2).run(job(mute, **TOLD), embeddings=given).latents
    assert (again - own).abs().max() < 1e-4
    longer = torch.cat([given, torch.zeros(3, 4, given.shape[2])], dim=1)
    other = pools(1).run(job(mute, **TOLD), embeddings=longer).latents
    assert (other - own).abs().max() > 1e-4, "what pads is attended to, as Wan was trained"


def test_a_family_whose_ranks_each_have_an_encoder_takes_them_too(tiny, pools):
    work = job(tiny, **TOLD)
    made = [pools(ranks).run(work, embeddings=given).latents for ranks, given in ((1, None), (2, embeddings_of(tiny, work)))]
    assert (made[0] - made[1]).abs().max() < 1e-4


def test_embeddings_that_do_not_fit_are_refused(wan, pools):
    work = job(wan, **TOLD)
    do = "a row for each prompt and the negative one, got {}: use the text encoder that this model was trained with"
    for shape in ((2, 8, 16), (3, 8, 24), (3, 0, 16), (8, 16)):
        with pytest.raises(JobRefused) as refused:
            pools(1).run(work, embeddings=torch.zeros(shape))
        assert str(refused.value) == f"embeddings: wanted (3, tokens, 16), {do.format(shape)}"
    with pytest.raises(JobRefused, match=r"^embeddings: wanted finite numbers"):
        pools(1).run(work, embeddings=torch.full((3, 8, 16), torch.inf))


def test_a_snapshot_goes_on_with_its_embeddings(wan, mute, pools, tmp_path):
    work, file, seen = job(mute, **TOLD), tmp_path / "kept.safetensors", []
    given = embeddings_of(wan, work)
    with pytest.raises(Stopped):
        stop = lambda: any(step.phase == "denoise" and step.step >= 2 for step in seen)  # noqa: E731
        keeper = Keeper(file, work, 3600, embeddings=given)
        pools(1).run(work, embeddings=given, keeper=keeper, on_step=lambda step, _: seen.append(step), should_stop=stop)
    kept = snapshot_file.load(file)
    assert torch.equal(kept.embeddings, given)
    made = pools(2).run(kept.job, stored=kept).latents
    assert (made - pools(1).run(work, embeddings=given).latents).abs().max() < 1e-4
    tensors = {"planes": kept.planes, "embeddings": given[:2].contiguous()}
    said = {"format": snapshot_file.FORMAT, "job": work.model_dump_json(), "step": str(kept.step)}
    save_file(tensors, file, metadata=said)
    with pytest.raises(JobRefused, match=r"is broken \(embeddings: wanted \(3, tokens, 16\), .*, got \(2, 8, 16\): "):
        snapshot_file.load(file)


def test_tokens_of_pictures_make_the_video_that_the_models_own_eye_makes(pools, tmp_path):
    model = wan_builders.wan_folder(tmp_path / "model", images="first and last", keen=True)
    blind = without_weights(model, "image_encoder", tmp_path / "blind")
    keyframes = {"keyframes": (Keyframe(frame=0), Keyframe(frame=12))}
    pixels = torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    tokens = load(folder.inspect(str(model)), torch.float32).look(pixels)
    assert load(folder.inspect(str(model)), torch.float32, looks=False).image_encoder is None
    own = pools(1).run(job(model, **TOLD, **keyframes), keyframes=pixels).latents
    work = job(blind, **TOLD, **keyframes)
    for ranks in (1, 2):
        made = pools(ranks).run(work, keyframes=pixels, picture_tokens=tokens).latents
        assert (made - own).abs().max() < 1e-4
    assert (pools(2).run(work, keyframes=pixels).latents - own).abs().max() > 1e-3, "without them it is blind"
    with pytest.raises(JobRefused) as refused:
        pools(1).run(work, keyframes=pixels, picture_tokens=tokens[:1])
    wanted = "picture tokens: wanted (2, 5, 20), those of the first and the last picture, got (1, 5, 20): use the image encoder"
    assert str(refused.value) == f"{wanted} that this model was trained with"


def test_tokens_of_pictures_that_nobody_takes_are_refused(wan, pools):
    with pytest.raises(JobRefused, match=r"^picture tokens: this model takes no tokens of pictures: leave them out$"):
        pools(1).run(job(wan, **TOLD), picture_tokens=torch.zeros(1, 5, 20))
