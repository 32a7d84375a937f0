"""LATENTs and pictures between the pack's nodes and ComfyUI's own: the same numbers, or refused in words that say what came."""

import copy
import json
import os
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file, save_file

from harness import builders
from harness.comfyui import Server
from tests.graphs import SOURCES, node, ours, sampler, subjects
from tests.test_comfyui import saved

FACTOR = 0.18215  # of Stable Diffusion's VAE, and so of most text-to-video UNets'


@pytest.fixture(scope="module")
def scaled(server, tmp_path_factory) -> str:
    """The name of a model whose VAE has a factor that is not 1, and whose weights ComfyUI's own VAE Loader reads, too."""
    folder = builders.text_to_video_folder(tmp_path_factory.mktemp("scaled") / "model")
    shutil.rmtree(folder / "vae")
    shape = {
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
    }  # the only one that ComfyUI knows in this format
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(**shape, **blocks, scaling_factor=FACTOR)
    vae.quant_conv.weight.data[4:], vae.quant_conv.bias.data[4:] = (
        0,
        -30,
    )  # no variance: ComfyUI draws, diffusers takes the mode
    vae.half().save_pretrained(folder / "vae")
    models = server.base / "models"
    for part in ("diffusers", "vae"):
        (models / part).mkdir(parents=True, exist_ok=True)
    (models / "diffusers" / "scaled").symlink_to(folder, target_is_directory=True)
    os.link(folder / "vae" / "diffusion_pytorch_model.safetensors", models / "vae" / "scaled.safetensors")
    yield "scaled"
    (models / "diffusers" / "scaled").unlink()
    (models / "vae" / "scaled.safetensors").unlink()


def clip(server: Server, name: str, frames: int, size: int = 32) -> str:
    """Leave a short video, smooth and full of colour, in ComfyUI's input folder, and return its name."""
    noise = torch.rand(frames, 3, 4, 4, generator=torch.Generator().manual_seed(frames))
    pixels = torch.nn.functional.interpolate(noise, size=(size, size), mode="bicubic").clamp(0, 1).movedim(1, -1)
    pictures = [Image.fromarray((frame * 255).to(torch.uint8).numpy()) for frame in pixels]
    (server.base / "input").mkdir(exist_ok=True)
    pictures[0].save(server.base / "input" / name, save_all=True, append_images=pictures[1:], lossless=True)
    return name


def save_images(images: tuple[str, int], prefix: str) -> dict:
    return node("SaveAnimatedWEBP", images=images, filename_prefix=prefix, fps=8.0, lossless=True, quality=90, method="default")


def save_latent(samples: tuple[str, int], prefix: str) -> dict:
    return node("SaveLatent", samples=samples, filename_prefix=prefix)


def stored(server: Server, prefix: str) -> torch.Tensor:
    """Return the newest LATENT that a workflow saved."""
    file = max((server.base / "output").glob(f"{prefix}_*.latent"), key=lambda path: path.stat().st_mtime_ns)
    return load_file(file)["latent_tensor"]


EMPTY = node("EmptyLatentImage", width=64, height=64, batch_size=4)


OTHER_LATENTS = [
    (
        [node("EmptySD3LatentImage", width=64, height=64, batch_size=4)],
        "latent: wanted a video's latents, (T, 4, h, w) or (1, 4, T, h, w), got (4, 16, 8, 8): use one that this model's VAE made",
    ),
    (
        [node("EmptyHunyuanLatentVideo", width=64, height=64, length=5, batch_size=2)],
        "latent: wanted a video's latents, (T, 4, h, w) or (1, 4, T, h, w), got (2, 16, 2, 8, 8), a batch of 2 videos: "
        "run them one by one",
    ),
    (
        [node("EmptyLatentAudio", seconds=1.0, batch_size=1)],
        "latent: wanted a video's latents, got those of type 'audio': use another node for them",
    ),
    (
        [node("EmptyLTXVLatentVideo", width=64, height=64, length=9, batch_size=1)],
        "latent: wanted downscale_ratio_spacial 8, got 32: use a latent that was made for this model",
    ),
    (
        [
            EMPTY,
            node("EmptyLatentAudio", seconds=1.0, batch_size=1),
            node("LTXVConcatAVLatent", video_latent=("0", 0), audio_latent=("1", 0)),
        ],
        "latent: wanted one video's latents, got several tensors in one, as of video with sound: separate them",
    ),
]


@pytest.mark.parametrize("reader", ["ClipParallelSampler", "ClipParallelDecode"])
@pytest.mark.parametrize("made_by, said", OTHER_LATENTS)
def test_a_latent_of_another_model_or_layout_is_refused_in_words_that_name_what_came(server, reader, made_by, said):
    prompt = subjects()[f"VideoInfinity{reader}"]
    prompt |= {str(number): copy.deepcopy(each) for number, each in enumerate(made_by)}
    prompt["node"]["inputs"]["latent"] = [str(len(made_by) - 1), 0]
    seen = server.run(prompt)
    assert (seen.detail["exception_type"], seen.detail["exception_message"].strip()) == ("JobRefused", said)


def test_a_latent_with_numbers_that_are_not_finite_is_refused(server):
    (server.base / "input").mkdir(exist_ok=True)
    broken = {"latent_tensor": torch.full((4, 4, 8, 8), float("nan")), "latent_format_version_0": torch.tensor([])}
    save_file(broken, server.base / "input" / "broken.latent")
    prompt = subjects()["VideoInfinityClipParallelDecode"] | {"latent": node("LoadLatent", latent="broken.latent")}
    assert server.run(prompt).detail["exception_message"].startswith("latent: wanted finite numbers, got some that are not: ")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"width": 128}, "latent: wanted 128x64 pixels, as width and height say, got 64x64: set width and height to 0 to take"),
        (
            {"frames": 9},
            "latent: wanted 9 frames, as `frames` says, or 1 for all of them, got 4: set frames to 0 to take those",
        ),
        ({"latent": None}, "denoise: 0.5 needs a video or a picture to start from: connect latent or image, or use 1"),
        ({"latent": None, "frames": 0, "denoise": 1.0}, "frames: 0 takes those of latent or image, and neither is connected"),
        ({"latent": ("masked", 0)}, "latent: has a noise_mask, and this sampler changes whole frames: remove the mask"),
        ({"image": ("picture", 0)}, "latent, image: wanted one of them, got both: disconnect one"),
        ({"latent": None, "image": ("pictures", 0)}, "image: wanted 4 frames, as `frames` says, or 1 for all of them, got 3"),
        ({"latent": None, "image": ("picture", 0), "height": 44}, "height: wanted a multiple of 8, got 44: use 48"),
    ],
)
def test_a_sampler_says_what_does_not_fit_before_any_rank_works(server, change, said):
    prompt = subjects()["VideoInfinityClipParallelSampler"]
    prompt |= {
        "latent": copy.deepcopy(EMPTY),
        "mask": node("SolidMask", value=1.0, width=64, height=64),
        "masked": node("SetLatentNoiseMask", samples=("latent", 0), mask=("mask", 0)),
        "picture": node("EmptyImage", width=64, height=64, batch_size=1, color=0),
        "pictures": node("EmptyImage", width=64, height=64, batch_size=3, color=0),
        "node": sampler(**{"denoise": 0.5, "latent": ("latent", 0)} | change),
    }
    if change.get("latent", True) is None:
        del prompt["node"]["inputs"]["latent"]
    seen = server.run(prompt)
    assert seen.detail["exception_type"] == "JobRefused", seen
    assert seen.detail["exception_message"].startswith(said), seen.detail["exception_message"]
    assert not [node for node, _ in seen.progress if node == "node"]


def test_encode_says_which_pictures_it_can_not_take(server):
    prompt = subjects()["VideoInfinityClipParallelEncode"]
    prompt["images"]["inputs"]["width"] = 50
    said = "images: width: wanted a multiple of 8, got 50: use 48"
    assert server.run(prompt).detail["exception_message"].startswith(said)


def test_a_size_of_zero_is_the_models_own(server, scaled):
    """The UNet's `sample_size`, one number for both or two, in latents of 8 pixels."""
    prompt = {**copy.deepcopy(SOURCES), "node": subjects()["VideoInfinityVideoPlan"]["node"]}
    prompt["words"] = node("PreviewAny", source=("node", 1))
    prompt["node"]["inputs"].update(width=0, height=0)
    prompt["model"]["inputs"]["model"] = scaled
    config = server.base / "models" / "diffusers" / scaled / "unet" / "config.json"
    whole = config.read_text()
    try:
        for frame, (size, said) in enumerate([(8, "4 frames of 64x64 "), ([4, 6], "4 frames of 48x32 ")]):
            config.write_text(json.dumps({**json.loads(whole), "sample_size": size}))
            prompt["node"]["inputs"]["frame"] = frame  # or ComfyUI shows what it has
            assert server.run(prompt).outputs["words"]["text"][0].startswith(said)
        config.write_text(json.dumps({**json.loads(whole), "sample_size": None}))
        prompt["node"]["inputs"].update(frame=2, width=64)
        said = "height: 0 takes the model's own, and its configuration names none: say how many pixels"
        assert server.run(prompt).detail["exception_message"].strip() == said
    finally:
        config.write_text(whole)


def test_a_latent_means_the_same_to_comfyuis_own_nodes(server, scaled):
    """On either side of each of ours one of ComfyUI's, with a VAE whose factor is not 1: the same latents, the same pixels."""
    prompt = {
        **copy.deepcopy(SOURCES),
        "vae": node("VAELoader", vae_name="scaled.safetensors"),
        "video": node("LoadImage", image=clip(server, "two.webp", 2)),
        "their_encode": node("VAEEncode", pixels=("video", 0), vae=("vae", 0)),
        "our_encode": ours("ClipParallelEncode", model=("model", 0), images=("video", 0), ranks=("ranks", 0)),
        "sampler": sampler(width=0, height=0, frames=0, steps=10, denoise=0.1, latent=("their_encode", 0)),
    }
    prompt["model"]["inputs"]["model"] = scaled
    for name in ("their_encode", "our_encode", "sampler"):
        prompt[f"{name} ours"] = ours("ClipParallelDecode", model=("model", 0), latent=(name, 0), ranks=("ranks", 0))
        prompt[f"{name} theirs"] = node("VAEDecode", samples=(name, 0), vae=("vae", 0))
        prompt[f"{name} latent"] = save_latent((name, 0), f"same_{name}")
        for side in ("ours", "theirs"):
            prompt[f"{name} {side} saved"] = save_images((f"{name} {side}", 0), f"same_{name}_{side}")
    seen = server.run(prompt)
    assert seen.end == "execution_success", seen.detail
    theirs, our, sampled = (stored(server, f"same_{name}") for name in ("their_encode", "our_encode", "sampler"))
    assert theirs.shape == our.shape == sampled.shape == (2, 4, 4, 4), "a frame is an item of the batch"
    assert (our - theirs).abs().max() < 0.01 * theirs.std()
    assert 0.7 < sampled.std() / theirs.std() < 1.5, "a weak denoise leaves the scale as it is"
    for name in ("their_encode", "our_encode", "sampler"):
        pixels = [saved(server, f"same_{name}_{side}").astype(int) for side in ("ours", "theirs")]
        assert pixels[0].shape == (2, 32, 32, 3) and pixels[0].std() > 1
        assert np.abs(pixels[0] - pixels[1]).max() <= 1, name
