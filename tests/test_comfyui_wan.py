"""Wan in a real ComfyUI: its LATENT is that of ComfyUI's own nodes, its previews have their colours, and what does not suit is refused."""

import copy
import importlib.util
import io
import os
import shutil

import numpy as np
import pytest
from diffusers import AutoencoderKLWan
from PIL import Image
from safetensors.torch import save_file

from harness.builders import randomized
from harness.comfyui import find_comfyui
from harness.wan_builders import transformer, wan_folder
from harness.wan_original import original_names
from parallel.families.wan_vae_shape import WanVAESizes
from tests.graphs import LINKS, SOURCES, TWO_NETS, node, ours, sampler, subjects
from tests.test_comfyui import saved
from tests.test_comfyui_latents import clip, save_images, save_latent, stored
from tests.test_preview import pack  # noqa: F401

CHANNELS = 16


@pytest.fixture(scope="module")
def wan(server, tmp_path_factory):
    """The name of a tiny random Wan with two nets, whose VAE's latents are as many and on the scale of Wan 2.1's; ComfyUI has it, too."""
    folder = wan_folder(tmp_path_factory.mktemp("wan") / "model", two_nets=True)
    for part in ("transformer", "transformer_2", "vae"):
        shutil.rmtree(folder / part)
    for seed, part in enumerate(("transformer", "transformer_2")):
        transformer(seed, channels=CHANNELS).save_pretrained(folder / part)
    vae = randomized(AutoencoderKLWan(base_dim=4, z_dim=CHANNELS))
    vae.save_pretrained(folder / "vae")
    models = server.base / "models"
    for part in ("diffusers", "vae"):
        (models / part).mkdir(parents=True, exist_ok=True)
    (models / "diffusers" / "wan").symlink_to(folder, target_is_directory=True)
    save_file(
        {name: weight.contiguous() for name, weight in original_names(vae.state_dict()).items()}, folder / "wan.safetensors"
    )
    os.link(folder / "wan.safetensors", models / "vae" / "wan.safetensors")
    yield "wan"
    (models / "diffusers" / "wan").unlink()
    (models / "vae" / "wan.safetensors").unlink()


def sources(name: str, **scope) -> dict:
    """Return what a prompt's nodes are linked to, with a model and scopes."""
    prompt = copy.deepcopy(SOURCES)
    prompt["model"]["inputs"]["model"] = name
    prompt["scope"]["inputs"].update(local_context="auto", **scope)
    return prompt


def test_a_latent_means_the_same_to_comfyuis_own_nodes(server, wan):
    """On either side of each of ours one of ComfyUI's, with Wan 2.1's own scale: the same latents, the same pixels."""
    prompt = {
        **sources(wan),
        "vae": node("VAELoader", vae_name="wan.safetensors"),
        "video": node("LoadImage", image=clip(server, "five.webp", 5)),
        "their_encode": node("VAEEncode", pixels=("video", 0), vae=("vae", 0)),
        "our_encode": ours("ClipParallelEncode", model=("model", 0), images=("video", 0), ranks=("ranks", 0)),
        "sampler": sampler(width=0, height=0, frames=0, steps=10, denoise=0.1, latent=("their_encode", 0)),
    }
    for name in ("their_encode", "our_encode", "sampler"):
        prompt[f"{name} ours"] = ours("ClipParallelDecode", model=("model", 0), latent=(name, 0), ranks=("ranks", 0))
        prompt[f"{name} theirs"] = node("VAEDecode", samples=(name, 0), vae=("vae", 0))
        prompt[f"{name} latent"] = save_latent((name, 0), f"wan_{name}")
        for side in ("ours", "theirs"):
            prompt[f"{name} {side} saved"] = save_images((f"{name} {side}", 0), f"wan_{name}_{side}")
    seen = server.run(prompt)
    assert seen.end == "execution_success", seen.detail
    theirs, our, sampled = (stored(server, f"wan_{name}") for name in ("their_encode", "our_encode", "sampler"))
    assert theirs.shape == our.shape == sampled.shape == (1, CHANNELS, 2, 4, 4), "five frames in two latents of one video"
    assert (our - theirs).abs().max() < 0.01 * theirs.std()
    for name in ("their_encode", "our_encode", "sampler"):
        pixels = [saved(server, f"wan_{name}_{side}").astype(int) for side in ("ours", "theirs")]
        assert pixels[0].shape == (5, 32, 32, 3) and pixels[0].std() > 1
        assert np.abs(pixels[0] - pixels[1]).max() <= 1, name


def test_frames_past_the_end_of_a_video_are_cut_off_and_its_latent_goes_on_to_a_second_sampler(server, wan):
    prompt = {
        **sources(wan),
        "sampler": sampler(width=32, height=32, frames=6, steps=1),
        "again": sampler(width=0, height=0, frames=0, steps=2, denoise=0.5, latent=("sampler", 0)),
        "vae": node("VAELoader", vae_name="wan.safetensors"),
        "theirs": node("VAEDecode", samples=("again", 0), vae=("vae", 0)),
        "their frames": save_images(("theirs", 0), "all_frames"),
        "latent": save_latent(("again", 0), "cut"),
        "loaded": sampler(width=0, height=0, frames=0, steps=1, latent=("empty", 0)),
        "empty": node("EmptyHunyuanLatentVideo", width=32, height=32, length=9, batch_size=1),
        "empty size": save_latent(("loaded", 0), "as_empty"),
    }
    for name in ("sampler", "again"):
        prompt[f"decode {name}"] = ours("ClipParallelDecode", model=("model", 0), latent=(name, 0), ranks=("ranks", 0))
        prompt[f"{name} frames"] = save_images((f"decode {name}", 0), f"cut_{name}")
    seen = server.run(prompt)
    assert seen.end == "execution_success", seen.detail
    assert stored(server, "cut").shape == (1, CHANNELS, 3, 4, 4)
    assert len(saved(server, "cut_sampler")) == len(saved(server, "cut_again")) == 6
    assert len(saved(server, "all_frames")) == 9, "ComfyUI's own decoder shows what the latents hold"
    assert stored(server, "as_empty").shape == (1, CHANNELS, 3, 4, 4)


def comfyuis_latent_formats():
    """Return ComfyUI's file of latent formats as a module of its own: it needs nothing else of ComfyUI."""
    spec = importlib.util.spec_from_file_location("comfyuis_latent_formats", find_comfyui() / "comfy" / "latent_formats.py")
    formats = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(formats)
    return formats


def test_a_latent_format_of_comfyui_is_known_by_its_channels_and_scale(pack):  # noqa: F811
    formats, of = comfyuis_latent_formats(), pack("preview").is_format_of
    scales = {
        "SD15": (4, (1 / 0.18215,)),
        "SDXL": (4, (1 / 0.13025,)),
        "Wan21": (16, WanVAESizes().latents_std),
        "Wan22": (48, tuple(formats.Wan22().latents_std.flatten().tolist())),
    }
    for name in scales:
        known = [other for other, scale in scales.items() if of(getattr(formats, name)(), *scale)]
        assert known == [name]
    assert not of(formats.Wan21(), 16, (1.0,)), "a small Wan has a scale of its own"


def test_a_preview_has_the_colours_that_comfyui_has_for_wan(server, wan, pack):  # noqa: F811
    prompt = {
        **sources(wan),
        "node": sampler(width=64, height=64, frames=33, steps=2),
        "latent": save_latent(("node", 0), "seen"),
    }
    seen = server.run(prompt)
    assert seen.end == "execution_success" and seen.previews == 2, seen.detail
    form, preview = comfyuis_latent_formats().Wan21(), pack("preview")
    latents_CTHW = form.process_in(stored(server, "seen"))[0]
    colours = {"latent_rgb_factors": form.latent_rgb_factors, "latent_rgb_factors_bias": form.latent_rgb_factors_bias}
    with Image.open(io.BytesIO(seen.picture)) as picture:
        shown = np.asarray(picture.convert("RGB")).astype(int)
    known, unknown = (
        np.asarray(preview.grid(latents_CTHW, form, 512).resize(shown.shape[1::-1])).astype(int)
        for form in (preview.Colours(**colours), None)
    )
    assert np.abs(shown - known).mean() < 5 < np.abs(shown - unknown).mean()


def in_words(server, prompt: dict) -> str:
    """Return what a node named `node` says, or refuses with."""
    seen = server.run(prompt)
    assert seen.end == "execution_error" and seen.detail["exception_type"] == "JobRefused", seen
    assert not seen.progress, "no rank worked"
    return seen.detail["exception_message"].strip()


@pytest.mark.parametrize(
    "change, said",
    [
        (
            {"width": 0},
            "width: 0 takes the model's own, and its configuration names none: say how many pixels; usual is 832x480 or 1280x720",
        ),
        ({"height": 40}, "height: wanted a multiple of 16, got 40: use 32"),
        ({"scheduler": "ddim"}, "scheduler: ddim does not suit this model: use euler, uni_pc, dpmpp_2m"),
        (
            {"latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=4)},
            "latent: wanted a video's latents, (1, 16, T, h, w), got (4, 16, 8, 8), a batch of 4 videos: run them one by one",
        ),
        (
            {"latent": node("EmptyLatentImage", width=64, height=64, batch_size=1)},
            "latent: wanted a video's latents, (1, 16, T, h, w), got (1, 4, 8, 8): use one that this model's VAE made",
        ),
        (
            {"latent": node("EmptyHunyuanVideo15Latent", width=64, height=64, length=5, batch_size=1)},
            "latent: wanted downscale_ratio_spacial 8, got 16: use a latent that was made for this model",
        ),
    ],
)
def test_what_does_not_suit_wan_is_refused_in_words(server, wan, change, said):
    prompt = {**sources(wan), "node": sampler(**change), "shown": node("PreviewAny", source=("node", 0))}
    if "latent" in change:
        prompt |= {"empty": change["latent"], "node": sampler(latent=("empty", 0))}
    assert in_words(server, prompt) == said


@pytest.mark.parametrize(
    "widgets, scope, said",
    [
        ({"shift": 3.0}, {}, "shift: this model's schedule is not one of flow matching, and has no shift: leave it out"),
        ({"cfg_low_noise": 3.0}, {}, "cfg_low_noise, the second of --guidance: this model has one net: leave it out"),
        (
            {},
            {"rotate": True},
            "places, rotate, full_windows: they are of 3D attention, which this model has not: leave them out",
        ),
        (
            {},
            {"places": "true"},
            "places, rotate, full_windows: they are of 3D attention, which this model has not: leave them out",
        ),
    ],
)
def test_what_only_wan_has_is_refused_for_a_unet(server, widgets, scope, said):
    prompt = {**copy.deepcopy(SOURCES), **{"node": sampler(scope=("scope", 0), **widgets)}}
    prompt["scope"]["inputs"].update(scope)
    assert in_words(server, {**prompt, "shown": node("PreviewAny", source=("node", 0))}) == said


def test_long_video_refuses_a_size_that_nobody_said_before_it_runs(server, wan):
    prompt = subjects()["VideoInfinityLongVideo"]
    prompt["node"]["inputs"].update(model=wan, width=0)
    status, answer = server.post("/prompt", {"prompt": prompt})
    details = [error["details"] for error in answer["node_errors"]["node"]["errors"]]
    assert status == 400 and any("width: 0 takes the model's own" in detail for detail in details), details


def test_the_plan_says_how_frames_are_packed_and_which_net_works_when(server, wan):
    plan = ours(
        "VideoPlan", **LINKS | {"scope": ("scope", 0)}, width=64, height=64, frames=42, fps=16.0, steps=20, cfg=4.0, loop=False
    )
    plan["inputs"].update(TWO_NETS | {"scheduler": "euler", "cfg_low_noise": 3.0, "shift": 12.0}, frame=20, planned_ranks=3)
    prompt = {**sources(wan, rotate=True, full_windows=True), "plan": plan, "words": node("PreviewAny", source=("plan", 1))}
    seen = server.run(prompt)
    assert seen.end == "execution_success", seen.detail
    (words,) = seen.outputs["words"]["text"]
    for line in (
        "42 frames of 64x64 (2.6 s at 16 fps) on 3 ranks, 16 or 13 frames each",
        "12 latents: the first holds 1 frame, each other one 4; 45 frames are made and the last 3 cut off, so that 45 would cost the same",
        "nets: the one for high noise makes 13 steps, the one for low noise the other 7 (cfg 4, then 3)",
        "windows are full: at the ends, and around global frames, a frame attends to as many as elsewhere",
        "global frames but the first move on by one latent a step: these are those of the first step",
        "messages: 2 a call of the net and rank, ",
    ):
        assert line in words.splitlines() or any(each.startswith(line) for each in words.splitlines()), words
    assert "frame 20 (in the latent of frames 17 to 20) attends to " in words and "skip tensors" not in words
    assert " from the busiest; one more, of " in words and words.count("messages") == 1
