"""Model folders in the forms that people have them in: run as diffusers would, or refused at the door with the cure."""

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, UNet3DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from parallel.families import folder, safety, weight_files
from parallel.job.errors import JobRefused
from parallel.sampler import load
from tests.same_model import check_same

CLASSES = {"unet": UNet3DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
FILES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
SHARDS = {"unet": "3MB", "vae": "40KB", "text_encoder": "8KB"}  # sizes that make two or three of each
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
Change = Callable[[Path], object]


@pytest.fixture
def copy(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "model")


@pytest.fixture(scope="module")
def expected(tiny):
    return load.load(folder.inspect(str(tiny)), torch.float32)


def refusal(model: Path) -> str:
    with pytest.raises(JobRefused) as refused:
        folder.inspect(str(model))
    return str(refused.value).replace(str(model), "MODEL")


def says(file: str, **said) -> Change:
    return lambda model: (model / file).write_text(json.dumps({**json.loads((model / file).read_text()), **said}))


def forgets(file: str, *keys: str) -> Change:
    def change(model: Path) -> None:
        said = json.loads((model / file).read_text())
        (model / file).write_text(json.dumps({key: value for key, value in said.items() if key not in keys}))

    return change


def lacks(*files: str) -> Change:
    return lambda model: [(model / file).unlink() for file in files]


def saved_as(part: str, **options) -> Change:
    """A part that its own library saved once more, in another form."""

    def change(model: Path) -> None:
        module = CLASSES[part].from_pretrained(model / part)
        (model / part / f"{FILES[part]}.safetensors").unlink()
        module.save_pretrained(model / part, **options)

    return change


def renamed(part: str, name: str) -> Change:
    return lambda model: (model / part / f"{FILES[part]}.safetensors").rename(model / part / name)


def spelled(prefix: str, metadata: dict | None) -> Change:
    def change(model: Path) -> None:
        file = model / "text_encoder" / "model.safetensors"
        weights = {prefix + name.removeprefix("text_model."): weight for name, weight in load_file(file).items()}
        save_file(weights, file, metadata=metadata)

    return change


def as_a_part_of(whole: type) -> Change:
    """The text encoder inside a model that has more than it."""

    def change(model: Path) -> None:
        place = model / "text_encoder"
        config, weights = CLIPTextConfig.from_pretrained(place), load_file(place / "model.safetensors")
        if whole is CLIPModel:
            sizes = {
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 1,
                "image_size": 8,
            }
            config = CLIPConfig(text_config=config.to_dict(), vision_config={**sizes, "patch_size": 4}, projection_dim=8)
        module = whole(config)
        full = {f"text_model.{name.removeprefix('text_model.')}": weight for name, weight in weights.items()}
        module.load_state_dict(full, strict=False)
        shutil.rmtree(place)
        module.save_pretrained(place)

    return change


def fast_only(model: Path) -> None:
    load.load(folder.inspect(str(model)), torch.float32).tokenizer.save_pretrained(model / "tokenizer")
    lacks("tokenizer/vocab.json", "tokenizer/merges.txt")(model) if (model / "tokenizer" / "vocab.json").exists() else None


def scheduled(kind: type) -> Change:
    return lambda model: kind().save_pretrained(model / "scheduler")


EXTRA = {"bytes": 2_000_000_000_000, "steps": list(range(1000)), "names": {"a": [1] * 1000}, "nothing": None}
ACCEPTED: dict[str, Change] = {
    "no limit to the tokens": says("tokenizer/tokenizer_config.json", model_max_length=10**30),
    "no class of the tokenizer": forgets("tokenizer/tokenizer_config.json", "tokenizer_class"),
    "a fast tokenizer alone": fast_only,
    "architectures of null": says("text_encoder/config.json", architectures=None),
    "architectures left out": forgets("text_encoder/config.json", "architectures"),
    "no class anywhere": lambda model: (
        forgets("text_encoder/config.json", "architectures")(model),
        lacks("model_index.json")(model),
    ),
    "class names in the index alone": lambda model: [
        forgets(f"{part}/{name}.json", "_class_name")(model)
        for part, name in {"unet": "config", "vae": "config", "scheduler": "scheduler_config"}.items()
    ],
    "no index": lacks("model_index.json"),
    "a part of null in the index": says("model_index.json", safety_checker=[None, None], feature_extractor=None),
    "a class with a projection": as_a_part_of(CLIPTextModelWithProjection),
    "a whole CLIP": as_a_part_of(CLIPModel),
    "weights named as by transformers 4": spelled("text_model.", {"format": "pt"}),
    "weights named as by transformers 5": spelled("", {"format": "pt"}),
    "weights without metadata": spelled("text_model.", None),
    "a stored type of half precision": says("text_encoder/config.json", dtype="float16", torch_dtype="float16"),
    "betas of its own": says("scheduler/scheduler_config.json", trained_betas=[0.1] * 1000),
    "a scheduler with an infinity": scheduled(DPMSolverMultistepScheduler),
    **{f"unknown keys in {part}": says(f"{part}/config.json", **EXTRA) for part in CLASSES},
    **{f"{part} in shards": saved_as(part, max_shard_size=SHARDS[part]) for part in CLASSES},
    **{f"{part} of a variant": renamed(part, f"{FILES[part]}.bf16.safetensors") for part in CLASSES},
    **{f"{part} in shards of a variant": saved_as(part, max_shard_size=SHARDS[part], variant="non_ema") for part in CLASSES},
    **{f"{part} beside a pickle": lambda model, part=part: (model / part / "x.bin").write_bytes(b"") for part in CLASSES},
}


@pytest.mark.parametrize("form", ACCEPTED)
@pytest.mark.filterwarnings("ignore:.*quick_gelu")
def test_a_folder_that_from_pretrained_loads_is_the_same_model(copy, expected, form):
    ACCEPTED[form](copy)
    model = load.load(folder.inspect(str(copy)), torch.float32)
    check_same(model, expected, CLASSES)


def test_a_variant_is_taken_where_there_is_no_plain_file_and_fp16_before_others(copy):
    unet = copy / "unet"
    (plain,) = unet.glob("*.safetensors")
    for kind in ("bf16", "fp16", "ema"):
        shutil.copy(plain, unet / f"diffusion_pytorch_model.{kind}.safetensors")
    assert weight_files.variant(unet) is None and weight_files.find(unet) == [plain]
    plain.unlink()
    assert weight_files.variant(unet) == "fp16"
    (unet / "diffusion_pytorch_model.fp16.safetensors").unlink()
    assert weight_files.variant(unet) == "bf16"


def written(file: str, text: str) -> Change:
    return lambda model: (model / file).write_text(text)


def linked(file: str, target: str) -> Change:
    return lambda model: ((model / file).unlink(), (model / file).symlink_to(target))


def in_shards(*changes: Change) -> Change:
    return lambda model: (saved_as("unet", max_shard_size=SHARDS["unet"])(model), [change(model) for change in changes])


SHARD = "diffusion_pytorch_model-00002-of-00002.safetensors"
INDEX = "diffusion_pytorch_model.safetensors.index.json"
PULL = "is a git LFS pointer and not the file itself: run `git lfs pull` in MODEL"
REFUSED: dict[str, tuple[Change, str]] = {
    **{
        f"a pointer for {file}": (written(file, POINTER), f"MODEL/{file} {PULL}/{Path(file).parent}")
        for file in (
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "text_encoder/model.safetensors",
            "tokenizer/vocab.json",
            "scheduler/scheduler_config.json",
        )
    },
    "a pointer for a shard": (in_shards(written(f"unet/{SHARD}", POINTER)), f"MODEL/unet/{SHARD} {PULL}/unet"),
    "no merges": (
        lacks("tokenizer/merges.txt"),
        "MODEL/tokenizer is not whole: wanted tokenizer.json, or vocab.json and merges.txt: get the folder again",
    ),
    "a shard left out": (
        in_shards(lacks(f"unet/{SHARD}")),
        f"MODEL/unet lacks {SHARD}, which {INDEX} names: get that file, too",
    ),
    "shards without an index": (
        in_shards(lacks(f"unet/{INDEX}")),
        f"MODEL/unet has shards without their index: get {INDEX}, too",
    ),
    "shards elsewhere": (
        in_shards(says(f"unet/{INDEX}", weight_map={"x": "../vae/diffusion_pytorch_model.safetensors"})),
        f"MODEL/unet/{INDEX} names ../vae/diffusion_pytorch_model.safetensors: wanted safetensors files beside it: get the "
        "folder again",
    ),
    "an index of nothing": (
        in_shards(says(f"unet/{INDEX}", weight_map=None)),
        f"MODEL/unet/{INDEX} has no weight_map: get the file again",
    ),
    "the other library's name": (
        renamed("unet", "model.safetensors"),
        "MODEL/unet has no weights: wanted diffusion_pytorch_model.safetensors",
    ),
    "quantized": (
        says("text_encoder/config.json", quantization_config={"quant_method": "bitsandbytes"}),
        "MODEL/text_encoder holds quantized weights, which are not supported: get the full ones",
    ),
    "a class that is none": (
        says("text_encoder/config.json", architectures=[]),
        "MODEL/text_encoder holds a T5EncoderModel: this version runs CLIPTextModel",
    ),
    "a link to nothing": (
        linked("unet/diffusion_pytorch_model.safetensors", "nothing.safetensors"),
        "MODEL/unet/diffusion_pytorch_model.safetensors can not be read (No such file or directory): is it a whole file, and "
        "yours to read?",
    ),
    "a link to itself": (
        linked("unet/diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors"),
        "MODEL/unet/diffusion_pytorch_model.safetensors can not be read (Too many levels of symbolic links): is it a whole file, "
        "and yours to read?",
    ),
    "widths of text": (
        says("vae/config.json", block_out_channels="x"),
        "MODEL/vae/config.json: block_out_channels: wanted a valid tuple, got 'x': get the folder again",
    ),
    "a length of text": (
        says("unet/config.json", in_channels="four"),
        "MODEL/unet/config.json: in_channels: wanted a valid integer, unable to parse string as an integer, got 'four': get the "
        "folder again",
    ),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_can_not_be_loaded_is_refused_at_the_door_with_its_cure(copy, form):
    if form == "a class that is none":
        says("model_index.json", text_encoder=["transformers", "T5EncoderModel"])(copy)
        forgets("text_encoder/config.json", "model_type")(copy)
    change, said = REFUSED[form]
    change(copy)
    assert refusal(copy) == said


@pytest.mark.parametrize("part", CLASSES)
def test_a_weight_of_another_shape_than_the_configurations(copy, part):
    (file,) = weight_files.find(copy / part)
    held = load_file(file)
    name = sorted(held)[0]
    save_file({**held, name: torch.cat([held[name], held[name]])}, file, metadata={"format": "pt"})
    with pytest.raises(JobRefused, match=rf"says that {name} is \[.*\], its file holds \[.*\]: get the folder again"):
        load.load(folder.inspect(str(copy)), torch.float32)


def sizing(kind: type) -> set[str]:
    """Return the names of a class's parameters that are whole numbers or tuples of them."""
    hints = {each.name: str(each.annotation) for each in inspect.signature(kind.__init__).parameters.values()}
    return {name for name, hint in hints.items() if "int" in hint or "uple[int" in hint or name.endswith("_block_types")}


def test_every_number_that_sizes_a_part_is_looked_at():
    sized = set().union(*map(sizing, (UNet3DConditionModel, AutoencoderKL, DDIMScheduler)))
    sized |= {name for name, value in CLIPTextConfig().to_diff_dict().items() if type(value) is int}
    harmless = {"downsample_padding", "steps_offset", "chunk_size_feed_forward", "bos_token_id", "eos_token_id", "pad_token_id"}
    assert sized - harmless <= {*safety.SIZES}
