"""Wan from images: what the stock pipelines make of them, on any ranks."""

import pytest
import torch
from diffusers import WanImageToVideoPipeline
from diffusers.pipelines.wan import pipeline_wan_i2v
from PIL import Image

from harness import wan_builders
from parallel.families import folder
from parallel.job.job import Job, Keyframe, Scope
from parallel.layers.view import View
from parallel.maths.scope import Span
from parallel.models import table, wan_vae
from parallel.sampler.encode_images import Caller, condition
from parallel.sampler.given import Given
from tests.test_wan import ALONE, job_of, narrow

FORMS = {
    "2.1": {"images": "first"},
    "2.1 first and last": {"images": "first and last"},
    "2.2 with two nets": {"images": "channels", "two_nets": True},
    "TI2V-5B": {"timed": True},
    "from text": {},
}
KEYFRAMES = (Keyframe(frame=0), Keyframe(frame=20, strength=0.5), Keyframe(frame=41))
FRAMES = 17  # five latents: two ranks, and three, have uneven clips


@pytest.fixture(scope="session")
def from_images(tmp_path_factory):
    """A function of a form's name that returns its folder."""
    made = {}

    def folder_of(form):
        if form not in made:
            made[form] = wan_builders.wan_folder(tmp_path_factory.mktemp("images"), **FORMS[form], keen=True)
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


@pytest.mark.parametrize("form", [form for form in FORMS if form != "from text"])
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


def wide(model, **change) -> Job:
    """Return a job of 12 latents that see few others, with three keyframes, two prompts and a fade."""
    return narrow(model, **{"keyframes": KEYFRAMES, "frames": 42, "num_inference_steps": 3, **change})


@pytest.mark.parametrize(
    "form, ranks", [("2.1", (2, 3, 4)), ("2.2 with two nets", (3,)), ("TI2V-5B", (3,)), ("from text", (3,)), ("UNet3D", (3,))]
)
def test_three_keyframes_are_the_same_video_on_any_ranks(from_images, tiny, pools, form, ranks):
    model, size = tiny if form == "UNet3D" else from_images(form), 64 if form == "TI2V-5B" else 32
    job = wide(model, height=size, width=size, decode=form == "2.1")
    if form == "UNet3D":
        size, few = 16, (Keyframe(frame=0), Keyframe(frame=6, strength=0.5), Keyframe(frame=13))
        narrow_scope = Scope(local_context=2, global_frames=3)
        job = job_of(tiny, frames=14, height=16, width=16, keyframes=few, scope=narrow_scope, decode=False)
    images = pictures(3, size)
    one = pools(1).run(job, keyframes=images)
    for each in ranks:
        other = pools(each).run(job, keyframes=images)
        assert (other.latents - one.latents).abs().max() <= 1e-4, each
        assert not job.decode or (other.frames - one.frames).abs().max() <= 1 / 255, each
    others = pools(1).run(job.model_copy(update={"decode": False}), keyframes=images.flip(0)).latents
    assert (others - one.latents).abs().amax(dim=(0, 1, 3, 4)).median() > 2e-4, "also latents between them see them"


def condition_of(model, frames: int, clip: range, rows: dict[int, int]) -> tuple[torch.Tensor, int]:
    """Return a clip's condition channels in a video of some frames, and how many latents went through the encoder."""
    geometry = model.folder.geometry
    view = View(ALONE, Span(geometry.latents(frames), 2, 2))
    view.__dict__["clips"] = (clip,)
    calls, run = [], wan_vae.Stream.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wan_vae.Stream, "run", lambda stream, x: (calls.append(x.shape[2]), run(stream, x))[1])
        made = condition(model, Given(pictures(2, 16), rows), view, Caller(lambda *_: None, lambda: False))
    return made, len(calls)


@pytest.fixture(scope="module")
def model(from_images):
    return table.load(folder.inspect(str(from_images("2.2 with two nets"))), torch.float32)


def test_the_condition_of_any_clip_is_the_stock_encoding_of_the_whole(model):
    """A picture at the beginning, one far from it and one near the end: what each reaches, and where nothing reaches."""
    frames, rows = 4 * 79 + 1, {0: 0, 166: 1, 300: 0}
    there = Given(pictures(2, 16), rows)
    video = there.video(range(frames)).permute(3, 0, 1, 2)[None] * 2 - 1
    with torch.inference_mode():
        raw = model.vae.encode(video).latent_dist.mode()
    expected = model.folder.latent_format.from_raw(raw, dim=1)
    shown = torch.tensor([float(frame in rows) for frame in range(frames)])
    mask = torch.cat([shown[:1].expand(3), shown]).view(-1, 4).T  # as stock lays it out: the first frame four times
    for clip in (range(80), range(0, 5), range(3, 35), range(30, 40), range(41, 44), range(66, 80)):
        made, _ = condition_of(model, frames, clip, rows)
        own = slice(clip.start, clip.stop)
        assert (made[:, 4:] - expected[:, :, own]).abs().max() <= 1e-5, clip
        assert torch.equal(made[0, :4, :, 0, 0], mask[:, own]), clip
    assert (expected[:, :, 42] - expected[:, :, 41]).abs().max() > 0.01, "a picture is seen"


def test_a_condition_costs_the_same_whatever_the_videos_length(model):
    counts = {}
    for frames in (241, 2401):
        every = model.folder.geometry.latents(frames)
        clips = range(every // 2), range(every // 2, every)
        counts[frames] = [condition_of(model, frames, clip, {0: 0, frames - 1: 1})[1] for clip in clips]
    assert counts[241] == counts[2401] and max(counts[241]) < 2 * (28 + 1) + 1
