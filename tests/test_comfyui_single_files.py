"""ComfyUI's own files in a real ComfyUI: which are listed, that they make our video, and that its own loaders read the same in them."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from harness import hostile_weights, wan_files, wan_loras
from harness.comfyui import find_comfyui
from harness.jobs import job
from harness.places import ROOT
from harness.tiny_files import Tiny, tiny_files
from parallel.families import folder, single_file
from parallel.job.files import Lora
from parallel.maths.dequantize import from_fp8
from parallel.models.single_file import MappedFile
from tests.graphs import LORA, NO_FILES, SOURCES, node, ours, sampler
from tests.test_comfyui import saved
from tests.test_comfyui_latents import save_images, save_latent, stored

PLACES = {"net": "diffusion_models", "fp8": "diffusion_models", "vae": "vae", "text": "text_encoders", "lora": "loras"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return tiny_files(tmp_path_factory.mktemp("comfyui-files"))


@pytest.fixture(scope="module")
def files(server, tiny):
    """The names of files that lie in ComfyUI's folders, one in a folder of its own; beside them such as can't be run."""
    low, scales = wan_files.scaled(tiny.net)
    written = {
        "net": tiny.write("net", wan_files.net_names(tiny.net)),
        "fp8": tiny.write("fp8", wan_files.spelled_old(wan_files.net_names(low), wan_files.net_names(scales))),
        "vae": tiny.files.vae,
        "text": tiny.files.text_encoder,
        "lora": wan_loras.write(wan_loras.Parts(tiny.net), "kohya", tiny.place / "lora.safetensors", other=torch.zeros(1)),
    }
    names, links = {}, []
    for part, kind in PLACES.items():
        place = server.base / "models" / kind / "wan"
        place.mkdir(parents=True, exist_ok=True)
        links.append(place / f"{part}.safetensors")
        os.symlink(written[part], links[-1])
        names[part] = f"wan/{part}.safetensors"
    (tiny.place / "bad").mkdir()
    for number, (_, file) in enumerate(hostile_weights.files(wan_files.net_names(tiny.net), tiny.place / "bad")):
        links.append(server.base / "models" / "diffusion_models" / f"bad-{number}.safetensors")
        os.symlink(file, links[-1])
    yield names
    for link in links:
        link.unlink()


def loader(files: dict[str, str], net: str = "net", **change) -> dict:
    inputs = {
        **SOURCES["model"]["inputs"],
        **NO_FILES,
        "model": files[net],
        "vae": files["vae"],
        "text_encoder": files["text"],
        **change,
    }
    return ours("LoadVideoModel", **inputs)


def test_what_can_be_run_is_listed_and_nothing_else(server, files):
    known = server.get("/object_info")
    inputs = known["VideoInfinityLoadVideoModel"]["input"]
    shown = {name: spec[1]["options"] for kind in ("required", "optional") for name, spec in inputs[kind].items()}
    nets = [files["fp8"], files["net"]]
    assert [name for name in shown["model"] if "bundled" not in name] == nets
    assert shown["model_low"] == ["none", *nets]
    assert shown["vae"] == ["none", files["vae"]] and shown["text_encoder"] == ["none", files["text"]]
    assert shown["clip_vision"] == ["none"]
    (loras,) = (
        spec[1]["options"] for name, spec in known["VideoInfinityVideoLora"]["input"]["required"].items() if name == "lora"
    )
    assert loras == [LORA, files["lora"]]


def test_files_and_a_lora_make_the_video_of_the_engine_and_comfyuis_own_vae_shows_it(server, files, tiny, pools):
    prompt = {
        **SOURCES,
        "loaded": loader(files),
        "model": ours("VideoLora", model=("loaded", 0), lora=files["lora"], strength=0.5, net="all"),
        "timeline": ours("PromptTimeline", timeline="0: a cat", fade=0, negative=""),
        "scope": ours("DualScopeAttention", **{**SOURCES["scope"]["inputs"], "local_context": 2, "global_frames": 3}),
        "sampler": sampler(width=16, height=16, frames=9, steps=4, cfg=1.0, seed=0),
        "latent": save_latent(("sampler", 0), "from_files"),
        "decode": ours("ClipParallelDecode", model=("model", 0), latent=("sampler", 0), ranks=("ranks", 0)),
        "film": ours("ClipParallelDecodeToVideo", model=("model", 0), latent=("sampler", 0), ranks=("ranks", 0), fps=16.0),
        "film parts": node("GetVideoComponents", video=("film", 0)),
        "film saved": save_images(("film parts", 0), "files_film"),
        "vae": node("VAELoader", vae_name=files["vae"]),
        "theirs": node("VAEDecode", samples=("sampler", 0), vae=("vae", 0)),
        "ours saved": save_images(("decode", 0), "files_ours"),
        "theirs saved": save_images(("theirs", 0), "files_theirs"),
    }
    prompt["sampler"]["inputs"]["scope"] = ["scope", 0]
    seen = server.run(prompt)
    assert seen.end == "execution_success", seen.detail
    lora = Lora(file=str(tiny.place / "lora.safetensors"), strength=0.5)
    wish = job(tiny.place / "net.safetensors", files=tiny.files, loras=(lora,), decode=False)
    model = folder.inspect(wish.model, wish.parts, wish.files)
    raw = model.latent_format.to_raw(pools(1).run(wish, model=model).latents, dim=1)
    assert (stored(server, "from_files") - raw).abs().max() < 1e-3
    pixels = [saved(server, f"files_{side}").astype(int) for side in ("ours", "theirs")]
    assert pixels[0].shape == (9, 16, 16, 3) and abs(pixels[0] - pixels[1]).max() <= 1
    film = saved(server, "files_film").astype(int)
    assert film.shape == pixels[0].shape and abs(film - pixels[0]).mean() < 8, "H.264 of noise"
    said = [text for name, text in seen.texts if name == "model"]
    assert said[-1].startswith("LoRA: lora.safetensors at 0.5, 8 layers") and "1 keys fit nothing" in said[-1]
    far = "16x16 is far from what this model was trained on: use about 832x480 or 1280x720, or expect worse frames"
    assert any(far in text for name, text in seen.texts if name == "sampler")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"vae": "none"}, "is a net alone: give its vae, too"),
        ({"model_low": "../../etc/passwd"}, "not in"),
        ({"model": "moving-shapes-wan (bundled)"}, "goes with a net that is a file, too"),
    ],
)
def test_what_is_missing_or_too_much_is_said_before_anything_runs(server, files, change, said):
    status, answer = server.post(
        "/prompt", {"prompt": {"model": loader(files, **change), "shown": node("PreviewAny", source=("model", 0))}}
    )
    assert status == 400 and said in json.dumps(answer["node_errors"]["model"])


def test_a_model_without_its_text_encoder_is_said_on_its_node_and_refused_on_the_samplers(server, files):
    prompt = {
        **SOURCES,
        "model": loader(files, text_encoder="none"),
        "timeline": ours("PromptTimeline", timeline="0: a cat", fade=0, negative=""),
        "sampler": sampler(width=16, height=16, frames=9),
        "saved": save_latent(("sampler", 0), "never"),
    }
    seen = server.run(prompt)
    assert ("model", "no text encoder: choose one, or connect clip to the sampler") in seen.texts
    assert seen.end == "execution_error" and seen.detail["node_id"] == "sampler" and not seen.progress
    assert "is without its text encoder: give it, too" in seen.detail["exception_message"]


def test_a_lora_of_another_family_is_refused_on_its_node(server, files):
    prompt = {
        "loaded": ours("LoadVideoModel", **SOURCES["model"]["inputs"]),
        "lora": ours("VideoLora", model=("loaded", 0), lora=files["lora"], strength=1.0, net="all"),
        "shown": node("PreviewAny", source=("lora", 0)),
    }
    seen = server.run(prompt)
    assert seen.end == "execution_error" and seen.detail["node_id"] == "lora"
    assert "and none fits this model: use a LoRA of its family" in seen.detail["exception_message"]


SPELLINGS = {
    "first": lambda low, scales: (wan_files.spelled_old(low, scales), {}),
    "second": lambda low, scales: (wan_files.spelled_by_layer(low, scales), {}),
    "third": lambda low, scales: (
        wan_files.spelled_by_header(low, scales),
        {"_quantization_metadata": wan_files.quantization_metadata(scales)},
    ),
}


def test_comfyuis_own_loader_reads_the_same_numbers_in_scaled_fp8(tmp_path):
    """Its nets take prompts of 4,096 numbers, and times of 256."""
    net = wan_files.net(text_dim=4096, freq_dim=256).state_dict()
    low, scales = wan_files.scaled(wan_files.net_names(net))
    files = []
    for name, spell in SPELLINGS.items():
        weights, metadata = spell(low, scales)
        files.append(wan_files.save(weights, tmp_path / f"{name}.safetensors", **metadata))
    script = ROOT / "harness" / "comfyui_reads.py"
    subprocess.run([sys.executable, str(script), str(find_comfyui()), *map(str, files)], check=True, timeout=300)
    for file in files:
        theirs = load_file(file.with_suffix(".read"))
        mapped, held = MappedFile(file), single_file.weights(single_file.read(file), "wan net")
        assert len(scales) == 20
        for name, original in zip(net, wan_files.net_names(net)):
            weight = held[name]
            dtype = theirs[original].dtype
            own = from_fp8(mapped.stored(weight.entry), mapped.scale(weight.scale) if weight.scale else None, dtype)
            assert torch.equal(own, theirs[original]), name
