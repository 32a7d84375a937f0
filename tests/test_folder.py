"""A model folder is refused before anything is loaded, in words."""

import json
import shutil

import pytest

from parallel import folder
from parallel.errors import JobRefused
from parallel.protocol import Job, Prompt, checked


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
    assert refusal(job(copy), 1) == f"model folder {copy} holds a UNet2DConditionModel: this version runs UNet3DConditionModel"


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("suffix", [".bin", ".ckpt", ".pt"])
def test_a_folder_with_only_pickled_weights(copy, part, suffix):
    for file in (copy / part).glob("*.safetensors"):
        file.rename(file.with_suffix(suffix))
    message = f"{copy / part} has only pickled weights, which can run code: convert them to safetensors"
    assert refusal(job(copy), 1) == message


def test_a_folder_without_weights(copy):
    for file in (copy / "unet").glob("*.safetensors"):
        file.unlink()
    assert refusal(job(copy), 1) == f"{copy / 'unet'} has no weights: wanted a .safetensors file"


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
