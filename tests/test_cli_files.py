"""Single files and LoRAs on the command line, as a person types them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness import wan_files, wan_loras
from harness.tiny_files import Tiny, tiny_files
from parallel.cli import arguments
from parallel.job.files import Lora
from tests.command_line import generate, refusal


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return tiny_files(tmp_path_factory.mktemp("cli-files"))


@pytest.fixture(scope="module")
def net(tiny) -> str:
    return tiny.write("net", wan_files.net_names(tiny.net))


def parts(tiny: Tiny) -> list[str]:
    return ["--vae", tiny.files.vae, "--text-encoder", tiny.files.text_encoder]


def test_files_make_the_video_of_the_folder_and_a_lora_changes_it(tiny, net, pools, tmp_path):
    twin = tiny.twin("cli", transformer=tiny.net)
    lora = wan_loras.write(wan_loras.Parts(tiny.net), "PEFT", tmp_path / "lora.safetensors")
    wishes = {
        "file": (net, parts(tiny)),
        "parts": (net, ["--vae", tiny.files.vae, "--parts", twin]),  # the text encoder and its tokenizer are a folder's
        "folder": (twin, []),
        "nothing": (net, [*parts(tiny), "--lora", f"{lora}:0"]),
        "lora": (net, [*parts(tiny), "--lora", f"{lora}:0.5"]),
    }
    latents = {}
    for name, (model, more) in wishes.items():
        file = tmp_path / f"{name}.latent"
        assert generate(pools, model, *more, "--output", tmp_path / name, "--latents", file) == 0
        latents[name] = load_file(file)["latent_tensor"]
    assert all((latents[name] - latents["folder"]).abs().max() < 1e-4 for name in ("file", "parts"))
    assert torch.equal(latents["nothing"], latents["file"])
    assert (latents["lora"] - latents["file"]).abs().max() > 0.01


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a.safetensors", ("a.safetensors", 1.0, "all")),
        ("a.safetensors:0.5", ("a.safetensors", 0.5, "all")),
        ("a.safetensors:-1:high", ("a.safetensors", -1.0, "high")),
        ("a.safetensors:low", ("a.safetensors", 1.0, "low")),
        ("C:\\loras\\a.safetensors:2", ("C:\\loras\\a.safetensors", 2.0, "all")),
    ],
)
def test_a_lora_is_read_as_it_is_written(text, expected):
    file, strength, net = expected
    (lora,) = arguments.build_parser().parse_args(["generate", "--lora", text]).lora
    assert lora == Lora(file=file, strength=strength, net=net)


def test_what_can_not_be_is_refused_in_a_line(tiny, net, tmp_path, capsys):
    folder = tiny.twin("refused")
    capsys.readouterr()  # of who wrote it
    for model, more, said in (
        (net, [], "is a net alone: give its vae, too"),
        (net, ["--vae", tiny.files.vae], "is without its text encoder: give it, too (--text-encoder FILE"),
        (net, ["--vae", net], "holds none that this version knows: wanted a Wan VAE"),
        (tiny.files.vae, [], "holds no net that this version knows"),
        (folder, ["--vae", tiny.files.vae], "goes with a net that is a file, too"),
        (net, [*parts(tiny), "--lora", net], "none fits this model"),
        (net, [*parts(tiny), "--lora", f"{tmp_path / 'gone.safetensors'}:0.5"], "gone.safetensors is no file"),
        (net, [*parts(tiny), "--latents", net], "would be written over"),
    ):
        line = refusal(capsys, model, "--prompt", "a", "--output", tmp_path / "out.mp4", *more)
        assert line.startswith("error: ") and said in line and line.count("\n") == 1, line
    assert not Path(tmp_path / "out.mp4").exists()
