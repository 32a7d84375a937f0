"""Wan's folders and jobs at the door: refused in words that say what was wanted, what came and what to do."""

import json
import shutil

import pytest

from harness import hostile, hostile_wan, wan_builders
from parallel.families import folder
from parallel.job.errors import JobRefused
from parallel.job.job import Job, Scope, Tuning, checked
from tests.test_folder import refusal
from tests.test_wan import job_of


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return wan_builders.wan_folder(tmp_path_factory.mktemp("single"))


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    return wan_builders.wan_folder(tmp_path_factory.mktemp("timed"), timed=True)


def refused(model, file: str, **said) -> str:
    """Return what is said of a folder of which one file says something else; the folder is put back."""
    place = model / file
    before = place.read_text()
    place.write_text(json.dumps({**json.loads(before), **said}))
    try:
        with pytest.raises(JobRefused) as error:
            folder.inspect(str(model))
    finally:
        place.write_text(before)
    return str(error.value).replace(str(model), "MODEL")


def test_folders_that_would_do_harm_are_refused(wan, tmp_path):
    fates = {name: hostile.attempt(what) for name, what in hostile_wan.model_folders(wan, tmp_path)}
    assert len(fates) > 90 and {name: fate for name, fate in fates.items() if fate != "refused"} == {}


def test_two_nets_need_a_boundary_and_a_boundary_two_nets(wan, single):
    wants = (
        "MODEL: wanted transformer_2 together with boundary_ratio in model_index.json, which says from where on it is at work, "
    )
    assert refused(single, "model_index.json", boundary_ratio=0.9) == wants + "got boundary_ratio alone: get the folder again"
    assert refused(wan, "model_index.json", boundary_ratio=None) == wants + "got transformer_2 alone: get the folder again"
    assert refused(wan, "transformer_2/config.json", num_layers=3) == (
        "MODEL/transformer_2 has other sizes than MODEL/transformer: get the folder again"
    )


@pytest.mark.parametrize(
    "file, said, expected",
    [
        (
            "transformer/config.json",
            {"in_channels": 36},
            "MODEL/transformer wants 36 channels, and makes 4: this version runs nets that make videos from text (4) or from images "
            "(12): use one of those",
        ),
        (
            "transformer/config.json",
            {"_class_name": "WanVACETransformer3DModel"},
            "model folder MODEL holds a WanVACETransformer3DModel: this version runs UNet3DConditionModel, WanTransformer3DModel",
        ),
        (
            "transformer/config.json",
            {"num_layers": 1000},
            "MODEL/transformer/config.json: num_layers: wanted at most 128, got 1000: get the folder again",
        ),
        (
            "transformer/config.json",
            {"text_dim": 4096},
            "the transformer wants prompts of width 4096, MODEL/text_encoder makes 16: use the text encoder of its family",
        ),
        ("vae/config.json", {"z_dim": 4, "_class_name": "AutoencoderKL"}, "MODEL/vae holds a AutoencoderKL: this version runs AutoencoderKLWan"),
        (
            "vae/config.json",
            {"z_dim": 3, "latents_mean": [0.0] * 3, "latents_std": [1.0] * 3},
            "the transformer wants latents of 4 channels, MODEL/vae makes 3: use another VAE",
        ),
        (
            "vae/config.json",
            {"latents_std": [1.0, 0.0, 1.0, 1.0]},
            "MODEL/vae/config.json: latents_std.1: wanted greater than 0, got 0.0: get the folder again",
        ),
        (
            "vae/config.json",
            {"scale_factor_spatial": 16},
            "MODEL/vae/config.json: scale_factor_spatial: wanted 8, as its layers make it, got 16: get the folder again",
        ),
        (
            "vae/config.json",
            {"temperal_downsample": [True] * 3, "scale_factor_temporal": 8},
            "MODEL/vae packs 8 frames into a latent: this version runs VAEs that pack 4",
        ),
        ("text_encoder/config.json", {"architectures": ["T5EncoderModel"]}, "MODEL/text_encoder holds a T5EncoderModel: this version runs UMT5EncoderModel"),
        (
            "scheduler/scheduler_config.json",
            {"stochastic_sampling": True},
            "MODEL/scheduler/scheduler_config.json: stochastic_sampling: wanted False, got True: use the scheduler of a released Wan",
        ),
        (
            "scheduler/scheduler_config.json",
            {"flow_shift": -1},
            "MODEL/scheduler/scheduler_config.json: flow_shift: wanted greater than 0, got -1: use the scheduler of a released Wan",
        ),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_refused(single, file, said, expected):
    assert refused(single, file, **said) == expected


def test_a_scheduler_that_is_none_of_flow_matching_is_refused_but_another_may_be_chosen(single, tmp_path):
    copy = shutil.copytree(single, tmp_path / "model")
    (copy / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": "LCMScheduler"}))
    assert refusal(job_of(copy), 1) == "scheduler: the model's LCMScheduler is not supported: use euler, uni_pc, dpmpp_2m"
    folder.check(job_of(copy, scheduler="euler"), 1)
    assert refusal(job_of(copy, scheduler="ddim"), 1) == "scheduler: ddim does not suit this model: use euler, uni_pc, dpmpp_2m"


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"height": 40}, "height: wanted a multiple of 16, got 40: use 32"),
        ({"width": 24}, "width: wanted a multiple of 16, got 24: use 32"),
        ({"guidance_scale_2": 3.0}, "cfg_low_noise, the second of --guidance: this model has one net: leave it out"),
        ({"tuning": Tuning(park_skips="always")}, "park_skips: a transformer has no skip tensors: use auto"),
        ({"tuning": Tuning(reuse_every=2)}, "reuse_every: a transformer has no outermost blocks that could run alone: use 1"),
        (
            {"tuning": Tuning(stale_after=1), "scope": Scope(rotate=True)},
            "rotate: global frames that move on are not those that stale context keeps: leave one of the two out",
        ),
    ],
)
def test_what_this_family_can_not_do_is_refused(single, change, expected):
    assert refusal(job_of(single, **change), 1) == expected


def test_sizes_of_a_vae_of_sixteen_pixels_are_multiples_of_thirty_two(timed):
    assert refusal(job_of(timed, height=80, width=64), 1) == "height: wanted a multiple of 32, got 80: use 64"


def test_there_are_no_more_ranks_than_latents(single):
    folder.check(job_of(single), 4)
    assert refusal(job_of(single), 5) == "cannot cut 13 frames into 5 clips: use at most 4 ranks"
    assert refusal(job_of(single, frames=1), 2) == "cannot cut 1 frames into 2 clips: use at most 1 ranks"


def test_what_is_wans_alone_is_refused_for_a_unet(tiny):
    values = {"model": str(tiny), "prompts": ({"frame": 0, "text": "a"},), "frames": 4, "height": 16, "width": 16}

    def of_unet(**change) -> str:
        return refusal(checked(Job, **{**values, **change}), 1)

    assert of_unet(shift=3.0) == "shift: this model's schedule is not one of flow matching, and has no shift: leave it out"
    assert of_unet(guidance_scale_2=3.0) == "cfg_low_noise, the second of --guidance: this model has one net: leave it out"
    for name, value in {"places": "true", "rotate": True, "full_windows": True}.items():
        said = of_unet(scope=Scope(**{name: value}))
        assert said == "places, rotate, full_windows: they are of 3D attention, which this model has not: leave them out"


@pytest.mark.parametrize("value", [0, -1, 10**6, [81], "x"])
def test_what_a_net_was_trained_on_is_a_number(single, tmp_path, value):
    copy = shutil.copytree(single, tmp_path / "model")
    (copy / "training.json").write_text(json.dumps({"trained_frames": 33}))
    assert folder.inspect(str(copy)).geometry.trained_frames == 33
    assert refused(copy, "training.json", trained_frames=value).startswith("MODEL/training.json: trained_frames: wanted ")


def test_a_tokenizer_that_needs_another_package_is_named(single, tmp_path):
    copy = shutil.copytree(single, tmp_path / "model")
    (copy / "tokenizer" / "tokenizer.json").rename(copy / "tokenizer" / "spiece.model")
    assert refusal(job_of(copy), 1) == (
        f"{copy / 'tokenizer'} has a spiece.model alone, which only the package sentencepiece reads: get its tokenizer.json, too"
    )
    (copy / "tokenizer" / "spiece.model").unlink()
    assert refusal(job_of(copy), 1) == f"{copy / 'tokenizer'} is not whole: wanted tokenizer.json: get the folder again"
