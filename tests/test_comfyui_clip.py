"""A graph's own text encoder in a real ComfyUI: the video that the model's own makes, or a refusal in words."""

import copy
import io

import pytest
import sentencepiece

from harness.wan_builders import WORDS, tokenizer, wan_folder
from tests.graphs import SOURCES, node, ours, sampler, subjects
from tests.test_comfyui_latents import clip, save_latent, stored

TIMELINE = "0: a (cat:1.4) runs\n6: a dog"
SIZE = {"width": 32, "height": 32, "frames": 13, "steps": 2, "cfg": 3.0}


@pytest.fixture(scope="module")
def folder(server, tmp_path_factory):
    """A tiny random Wan in ComfyUI's folder, whose text encoder ComfyUI can load, too: with its words as SentencePiece has them."""
    place = wan_folder(tmp_path_factory.mktemp("wan") / "model")
    tokenizer(512).save_pretrained(place / "tokenizer")
    words, said = io.BytesIO(), []
    for often, word in enumerate(reversed(WORDS[3:]), start=1):  # in the order of their numbers, from the most frequent on
        said += [word] * often
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(said), model_writer=words, model_type="word", vocab_size=len(WORDS), pad_id=0, eos_id=1, unk_id=2,
        bos_id=-1, minloglevel=2,
    )  # fmt: skip
    (place / "text_encoder" / "spiece.model").write_bytes(words.getvalue())
    (server.base / "models" / "diffusers").mkdir(parents=True, exist_ok=True)
    link = server.base / "models" / "diffusers" / "with_clip"
    link.symlink_to(place, target_is_directory=True)
    yield place
    link.unlink()


def graph(folder, *, devices: str = "cpu,cpu", timeline: str = TIMELINE, **change) -> dict:
    """Return a prompt whose node `sampler` saves what it makes."""
    prompt = copy.deepcopy(SOURCES) | {
        "clip": node("TestsTinyCLIP", folder=str(folder / "text_encoder")),
        "sampler": sampler(**SIZE | change),
        "saved": save_latent(("sampler", 0), "clip"),
    }
    prompt["model"]["inputs"]["model"] = "with_clip"
    prompt["ranks"]["inputs"]["devices"] = devices
    prompt["timeline"]["inputs"].update(timeline=timeline, negative="sleeps", fade=2)
    return prompt


def made(server, prompt: dict):
    """Return the latents that a prompt saves."""
    seen = server.run(prompt)
    assert seen.end == "execution_success", seen.detail
    return stored(server, "clip")


def test_the_graphs_clip_makes_the_video_that_the_models_own_encoder_makes(server, folder):
    own = made(server, graph(folder))
    for devices in ("cpu,cpu", "cpu"):
        other = made(server, graph(folder, devices=devices, clip=("clip", 0)))
        assert (other - own).abs().max() < 1e-3 * own.std()
    plain = made(server, graph(folder, clip=("clip", 0), timeline="0: a cat runs\n6: a dog"))
    assert (plain - own).abs().max() > 1e-3 * own.std(), "weights of words count"


def test_one_conditioning_makes_the_video_of_its_prompt(server, folder):
    own = made(server, graph(folder, timeline="0: a cat"))
    prompt = graph(folder, timeline="0: a dog", positive=("cat", 0), negative=("sleeps", 0))
    prompt |= {
        text: node("CLIPTextEncode", text=said, clip=("clip", 0)) for text, said in (("cat", "a cat"), ("sleeps", "sleeps"))
    }
    assert (made(server, prompt) - own).abs().max() < 1e-3 * own.std()


def test_long_video_takes_a_clip(server, folder):
    prompt = graph(folder)
    prompt["sampler"] = ours("LongVideo", model="with_clip", prompt="a cat", width=32, height=32, frames=5, seed=4)
    prompt["saved"]["inputs"]["samples"] = ["sampler", 1]
    own = made(server, prompt)
    prompt["sampler"]["inputs"]["clip"] = ["clip", 0]
    assert (made(server, prompt) - own).abs().max() < 1e-3 * own.std()


@pytest.mark.parametrize(
    "change, said",
    [
        (
            {"positive": ("cat", 0)},
            "negative: cfg above 1 guides away from it, and it is not connected: connect it, or use a cfg of 1",
        ),
        (
            {"positive": ("cat", 0), "cfg": 1.0},
            "positive: is one prompt, and the timeline has 2: connect clip for these instead",
        ),
        (
            {"negative": ("cat", 0)},
            "negative: is of use beside positive only: connect that too, or write it in Prompt Timeline",
        ),
        ({"positive": ("two", 0), "cfg": 1.0}, "negative: wanted one prompt, got 2 in one CONDITIONING: connect one alone"),
        ({"positive": ("area", 0), "cfg": 1.0}, "negative: has area, set_area_to_bounds, strength: text alone is taken"),
        (
            {"clip": ("clip", 0), "positive": ("cat", 0)},
            "clip, positive, negative: clip encodes all prompts of the timeline: disc",
        ),
    ],
)
def test_what_a_conditioning_says_beside_one_prompt_is_refused(server, folder, change, said):
    prompt = graph(folder, **change) | {
        "cat": node("CLIPTextEncode", text="a cat", clip=("clip", 0)),
        "two": node("ConditioningCombine", conditioning_1=("cat", 0), conditioning_2=("cat", 0)),
        "area": node("ConditioningSetArea", conditioning=("cat", 0), width=64, height=64, x=0, y=0, strength=1.0),
    }
    seen = server.run(prompt)
    assert seen.detail["exception_type"] == "JobRefused", seen
    assert seen.detail["exception_message"].startswith(said), seen.detail["exception_message"]


def test_a_clip_of_another_model_is_refused_before_any_rank_works(server, folder):
    prompt = subjects()["VideoInfinityClipParallelSampler"]
    prompt["clip"] = node("TestsTinyCLIP", folder=str(folder / "text_encoder"))
    prompt["node"]["inputs"]["clip"] = ["clip", 0]
    seen = server.run(prompt)
    said = seen.detail["exception_message"]
    assert said.startswith(
        "clip: embeddings: wanted (2, tokens, 64), a row for each prompt and the negative one, got (2, 512, 16): "
    ), said
    assert not [where for where, _ in seen.progress if where == "node"]


@pytest.fixture(scope="module")
def from_images(server, tmp_path_factory):
    """A tiny random Wan 2.1 from images."""
    place = wan_folder(tmp_path_factory.mktemp("eye") / "model", images="first", keen=True)
    link = server.base / "models" / "diffusers" / "with_eye"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(place, target_is_directory=True)
    yield place
    link.unlink()


def test_the_graphs_clip_vision_makes_the_video_that_the_models_own_eye_makes(server, from_images):
    prompt = graph(from_images, keyframes=("keyframes", 0)) | {
        "picture": node("LoadImage", image=clip(server, "eye.webp", 1)),
        "keyframes": ours("Keyframes", images=("picture", 0), at="0", strength=1.0),
        "vision": node("TestsTinyVision", folder=str(from_images / "image_encoder")),
        "seen": node("CLIPVisionEncode", clip_vision=("vision", 0), image=("picture", 0), crop="center"),
        "gray": node("EmptyImage", width=32, height=32, batch_size=1, color=0x808080),
        "other": node("CLIPVisionEncode", clip_vision=("vision", 0), image=("gray", 0), crop="center"),
    }
    del prompt["clip"]
    prompt["model"]["inputs"]["model"] = "with_eye"
    own = made(server, prompt)
    differences = []
    for seen in ("seen", "other"):
        prompt["sampler"]["inputs"]["clip_vision_output"] = [seen, 0]
        differences.append(float((made(server, prompt) - own).abs().max() / own.std()))
    assert differences[0] < 0.02 < differences[1], differences
    del prompt["sampler"]["inputs"]["keyframes"]
    seen = server.run(prompt)
    assert seen.end == "execution_error" and "image" in seen.detail["exception_message"], seen.detail
