"""The bundled Wan model: the stock pipeline loads and runs it, it is small, and its VAE keeps what it sees."""

import json

import pytest
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline, WanPipeline, WanTransformer3DModel
from einops import rearrange
from transformers import AutoTokenizer, UMT5EncoderModel

from harness.places import ROOT
from scripts.shapes import Scene, all_kinds, draw_scene, render

FOLDER = ROOT / "assets" / "moving-shapes-wan"
OF_IMAGES = ROOT / "assets" / "moving-shapes-wan-images"
CAPTION = "a red circle orbiting clockwise on a gray background"


@pytest.fixture(scope="module")
def pipeline() -> WanPipeline:
    pipeline = WanPipeline.from_pretrained(FOLDER, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(
    "part, kind", [("transformer", WanTransformer3DModel), ("vae", AutoencoderKLWan), ("text_encoder", UMT5EncoderModel)]
)
def test_each_part_finds_all_its_weights_and_no_other(part, kind):
    _, said = kind.from_pretrained(FOLDER / part, local_files_only=True, output_loading_info=True)
    assert not any(said.values())


@pytest.mark.parametrize("folder", [FOLDER, OF_IMAGES])
def test_the_folder_is_small(folder):
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 16e6


def test_the_one_for_images_begins_with_the_image_by_its_condition_channels(pipeline):
    of_images = WanImageToVideoPipeline.from_pretrained(OF_IMAGES, local_files_only=True)
    assert (
        of_images.transformer.config.in_channels == 2 * of_images.vae.config.z_dim + 4 and not of_images.config.expand_timesteps
    )
    video, image = begun(of_images, pipeline)
    assert (video[0] - image).abs().mean() < 0.04 < (video[4] - image).abs().mean()


@pytest.mark.parametrize("tokens", [32, 512])
def test_the_stock_pipeline_runs(pipeline, tokens):
    call = {"height": 64, "width": 64, "num_frames": 9, "num_inference_steps": 2, "max_sequence_length": tokens}
    video = pipeline(CAPTION, **call, generator=torch.Generator().manual_seed(0), output_type="pt").frames
    assert video.shape == (1, 9, 3, 64, 64)
    assert video.isfinite().all() and video.std() > 0.02


def test_the_stock_pipeline_for_images_begins_with_the_image(pipeline):
    parts = {name: part for name, part in pipeline.components.items() if name != "transformer_2"}
    video, image = begun(WanImageToVideoPipeline(**parts, expand_timesteps=True), pipeline)
    assert (video[0] - image).abs().mean() < 0.03


def begun(of_images: WanImageToVideoPipeline, pipeline: WanPipeline) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a video (F, 3, H, W) that a pipeline makes of an image, and the image."""
    of_images.set_progress_bar_config(disable=True)
    scene = draw_scene(all_kinds()[200], torch.Generator().manual_seed(0))
    image = render(scene, torch.zeros(1))
    told, untold = pipeline.encode_prompt(scene.caption, max_sequence_length=32)  # the one for images wants ftfy for it
    call = {"height": 64, "width": 64, "num_frames": 5, "num_inference_steps": 8, "guidance_scale": 3.0}
    call |= {"prompt_embeds": told, "negative_prompt_embeds": untold}
    video = of_images(image, **call, generator=torch.Generator().manual_seed(0), output_type="pt").frames
    return video[0], image[0]


def test_the_folder_says_that_latents_have_times_of_their_own():
    index = json.loads((FOLDER / "model_index.json").read_text())
    assert (index["expand_timesteps"], index["boundary_ratio"], index["transformer_2"]) == (True, None, [None, None])


def test_a_word_of_a_caption_is_one_token():
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "tokenizer", local_files_only=True)
    for kind in all_kinds():
        caption = Scene(*kind).caption
        ids = tokenizer(caption).input_ids
        assert len(ids) == len(caption.split()) + 1 and ids[-1] == tokenizer.eos_token_id == 1
        assert tokenizer.unk_token_id not in ids
    assert tokenizer("", padding="max_length").input_ids == [1] + [0] * 31


@pytest.mark.parametrize("number", [0, 130, 250, 383])
def test_the_vae_gives_a_clip_back(pipeline, number):
    frames = render(draw_scene(all_kinds()[number], torch.Generator().manual_seed(number)), torch.arange(33))
    clip = rearrange(frames, "f c h w -> 1 c f h w")
    with torch.inference_mode():
        latents = pipeline.vae.encode(clip * 2 - 1).latent_dist.mode()
        again = (pipeline.vae.decode(latents).sample + 1) / 2
    assert latents.shape == (1, 16, 9, 8, 8)
    assert (again - clip).abs().mean() < 0.03
