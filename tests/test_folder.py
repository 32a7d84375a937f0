"""A model folder is refused before anything is loaded, in words."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from parallel.families import folder, weight_files
from parallel.job.errors import JobRefused
from parallel.job.job import Job, Prompt, checked
from parallel.sampler import load


@pytest.fixture
def copy(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "model")


def job(model, **change) -> Job:
    values = {"prompts": (Prompt(frame=0, text="a"),), "frames": 4, "height": 16, "width": 16}
    return checked(Job, **{**values, "model": str(model), **change})


def refusal(*call) -> str:
    with pytest.raises(JobRefused) as refused:
        folder.check(*call)
    return str(refused.value)


def test_a_good_folder_tells_its_numbers(tiny):
    model = folder.check(job(tiny), 2)
    assert (model.family, model.scale, model.latent_channels, model.fps_cond) == ("UNet3DConditionModel", 2, 4, False)
    assert model.scheduler_class == "DDIMScheduler"
    assert (model.scaling_factor, model.own_size) == (0.18215, (16, 16))


def test_the_guidance_that_suits_a_model_is_what_its_folder_says(copy):
    assert folder.inspect(str(copy)).guidance_scale == 9.0, "as in diffusers"
    (copy / "training.json").write_text('{"guidance_scale": 2.5, "frames": 16}')
    assert folder.inspect(str(copy)).guidance_scale == 2.5
    (copy / "training.json").write_text('{"guidance_scale": -1}')
    assert refusal(job(copy), 1).endswith(
        "training.json: guidance_scale: wanted greater than or equal to 0, got -1: get the folder again"
    )


def test_more_ranks_than_frames(tiny):
    assert refusal(job(tiny), 5) == "cannot cut 4 frames into 5 clips: use at most 4 ranks"


def test_a_size_that_the_vae_can_not_do(tiny):
    assert refusal(job(tiny, height=17), 1) == "height: wanted a multiple of 2, got 17: use 16"
    assert refusal(job(tiny, width=9), 1) == "width: wanted a multiple of 2, got 9: use 8"


def test_a_missing_folder(tmp_path):
    assert (
        refusal(job(tmp_path / "no"), 1) == f"model folder {tmp_path / 'no'} does not exist: give a folder in diffusers format"
    )


def test_a_folder_that_is_not_diffusers(tmp_path):
    message = f"{tmp_path} is not a diffusers model folder: {tmp_path / 'config.json'} is missing"
    assert refusal(job(tmp_path), 1) == message


def test_a_folder_of_another_family(copy):
    (copy / "unet" / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel"}))
    assert (
        refusal(job(copy), 1)
        == f"model folder {copy} holds a UNet2DConditionModel: this version runs UNet3DConditionModel, WanTransformer3DModel"
    )


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("suffix", [".bin", ".ckpt", ".pt"])
def test_a_folder_with_only_pickled_weights(copy, part, suffix):
    for file in (copy / part).glob("*.safetensors"):
        file.rename(file.with_suffix(suffix))
    message = f"{copy / part} has only pickled weights, which can run code: convert them with `python -m scripts.to_safetensors` (README.md)"
    assert refusal(job(copy), 1) == message


def test_a_folder_without_weights(copy):
    for file in (copy / "unet").glob("*.safetensors"):
        file.unlink()
    assert refusal(job(copy), 1) == f"{copy / 'unet'} has no weights: wanted diffusion_pytorch_model.safetensors"


def test_a_configuration_that_is_cut_short(copy):
    (copy / "unet" / "config.json").write_text('{"_class_name": ')
    assert refusal(job(copy), 1).startswith(f"{copy / 'unet' / 'config.json'} is not valid JSON (")


def test_a_folder_with_the_unet_alone_needs_a_second_one(copy, tiny):
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.rmtree(copy / part)
    assert refusal(job(copy), 1) == f"model folder {copy} has no vae: give a second folder that has one as `parts`"
    assert folder.check(job(copy, parts=str(tiny)), 1).vae == tiny / "vae"
    assert folder.check(job(copy / "unet", parts=str(tiny)), 1).unet == copy / "unet"


def test_a_scheduler_that_is_not_known_to_be_safe(copy):
    (copy / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": "PNDMScheduler"}))
    message = "scheduler: the model's PNDMScheduler is not supported: use ddim, dpmpp_2m, uni_pc, euler, euler_ancestral"
    assert refusal(job(copy), 1) == message
    folder.check(job(copy, scheduler="ddim"), 1)


def test_parts_that_do_not_fit_each_other(copy):
    def changed(part, **values):
        file = copy / part / "config.json"
        before = file.read_text()
        file.write_text(json.dumps({**json.loads(before), **values}))
        said = refusal(job(copy), 1)
        file.write_text(before)
        return said

    assert changed("vae", _class_name="AsymmetricVAE") == (
        f"{copy / 'vae'} holds a AsymmetricVAE: this version runs AutoencoderKL"
    )
    assert changed("text_encoder", architectures=["T5"]) == (
        f"{copy / 'text_encoder'} holds a T5: this version runs CLIPTextModel"
    )
    assert changed("vae", latent_channels=16) == (
        f"the UNet wants latents of 4 channels, {copy / 'vae'} makes 16: use another VAE"
    )
    assert changed("text_encoder", hidden_size=99) == (
        f"the UNet wants prompts of width 16, {copy / 'text_encoder'} makes 99: use the text encoder of its family"
    )


def test_half_precision_weights_alone_are_found(copy):
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    half = file.rename(copy / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    folder.check(job(copy), 1)
    assert weight_files.variant(copy / "unet") == "fp16" and weight_files.find(copy / "unet") == [half]
    load.load(folder.inspect(str(copy)), torch.float32)
    shutil.copy(half, file)
    assert weight_files.variant(copy / "unet") is None and weight_files.find(copy / "unet") == [file]


def test_a_file_of_another_name_is_no_weights(copy):
    (copy / "vae" / "diffusion_pytorch_model.safetensors").rename(copy / "vae" / "old.safetensors")
    assert refusal(job(copy), 1) == f"{copy / 'vae'} has no weights: wanted diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_missing_are_not_made_up(copy, part):
    """diffusers and transformers would fill them with noise, another one on each rank."""
    (file,) = weight_files.find(copy / part)
    weights = load_file(file)
    lost = sorted(weights)[3]
    save_file({name: value for name, value in weights.items() if name != lost}, file, metadata={"format": "pt"})
    with pytest.raises(JobRefused) as refused:
        load.load(folder.inspect(str(copy)), torch.float32)
    assert str(refused.value) == f"{copy / part} lacks 1 weights, such as {lost}: get the folder again"


def test_weights_that_the_configuration_does_not_name_are_not_dropped(copy):
    (file,) = weight_files.find(copy / "unet")
    save_file({**load_file(file), "extra.weight": torch.ones(1)}, file, metadata={"format": "pt"})
    with pytest.raises(JobRefused, match=r"has, beside what its configuration says, 1 weights, such as extra\.weight"):
        load.load(folder.inspect(str(copy)), torch.float32)
