"""What a model folder holds, read from its JSON alone: nothing is imported, unpickled or loaded."""

import os
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from ..job.errors import JobRefused
from ..job.job import Frozen, Job, checked
from . import weight_files
from .safety import check_links, check_pulled, read_config

FAMILIES = ("UNet3DConditionModel",)
PARTS = ("vae", "text_encoder", "tokenizer", "scheduler")
# What a part may be. CLIPTextModel is also loaded out of the larger models that it is a part of.
CLASSES = {"vae": ("AutoencoderKL",), "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel")}
MODEL_TYPES = ("clip_text_model", "clip")  # of a text encoder whose configuration names no class
# ComfyUI's names for diffusers' classes. They act on each element alone, so that a slice of the video is stepped as the
# whole would be. Any other class might draw noise by batch or look across frames, and is refused by name.
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "uni_pc": "UniPCMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
}


Shape = TypeVar("Shape", bound=Frozen)


class UNetShape(Frozen):
    """The sizes of a `UNet3DConditionModel`, under diffusers' names and with its defaults."""

    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    attention_head_dim: int = 64
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",)
    up_block_types: tuple[str, ...] = ("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 3

    def frame_layers(self) -> dict[str, int]:
        """Return how many layers of each kind mix frames."""
        depth = self.layers_per_block
        blocks = [(kind, depth) for kind in self.down_block_types] + [(kind, depth + 1) for kind in self.up_block_types]
        convolutions = 2 + sum(layers for _, layers in blocks)  # the middle block has two, each of four convolutions
        transformers = 2 + sum(layers for kind, layers in blocks if kind.startswith("CrossAttn"))  # the first layer, the middle
        return {"norm": transformers, "attention": 2 * transformers, "convolution": 4 * convolutions}


class ModelFolder(Frozen):
    """Where each part of a model is, and the few numbers that a job is checked against."""

    family: str
    unet: Path
    vae: Path
    text_encoder: Path
    tokenizer: Path
    scheduler: Path
    scheduler_class: str
    solver_order: int = Field(ge=1, le=3)
    unet_shape: UNetShape
    vae_channels: int  # of its layers at full size
    latent_channels: int
    scale: int  # pixels of a frame for one latent pixel
    scaling_factor: float = Field(gt=0, allow_inf_nan=False)  # the VAE's raw latents times it are what the net sees
    own_size: tuple[int, int] | None  # height and width in pixels that its configuration names
    fps_cond: bool

    def history(self, scheduler: str) -> int:
        """Return how many tensors of the latents' size a scheduler, by the job's name for it, remembers between steps."""
        kind = SCHEDULERS.get(scheduler, self.scheduler_class)
        return self.solver_order * kind.endswith("MultistepScheduler") + kind.startswith("UniPC")


class _Text(Frozen):
    """The sizes of a text encoder that others are checked against."""

    hidden_size: int = 512


class _Sizes(Frozen):
    """The sizes of a UNet that others are checked against."""

    in_channels: int = Field(4, ge=1)
    cross_attention_dim: int = 1024
    sample_size: int | tuple[int, int] | None = None
    fps_cond: bool = False


class _VAE(Frozen):
    """The sizes of a VAE, under diffusers' names and with its defaults."""

    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = Field((64,), min_length=1)
    scaling_factor: float = Field(0.18215, gt=0, allow_inf_nan=False)


def inspect(model: str, parts: str | None = None) -> ModelFolder:
    """Return what a model folder holds, with `parts` for what it lacks; raise JobRefused if it can't be run, or is not safe."""
    try:
        return _inspect(model, parts)
    except OSError as error:
        raise JobRefused(
            f"{error.filename or model} can not be read ({error.strerror}): is it a whole file, and yours to read?"
        ) from None


def _inspect(model: str, parts: str | None) -> ModelFolder:
    root = Path(model)
    if not root.is_dir():
        raise JobRefused(f"model folder {model} does not exist: give a folder in diffusers format")
    unet = root / "unet" if (root / "unet").is_dir() else root
    family = _class_of(unet, read_config(unet / "config.json"))
    if family not in FAMILIES:
        raise JobRefused(f"model folder {model} holds a {family}: this version runs {', '.join(FAMILIES)}")
    if parts is not None and not Path(parts).is_dir():
        raise JobRefused(f"parts folder {parts} does not exist: give a folder in diffusers format")
    places = {part: _find(part, root, parts) for part in PARTS}
    for place in (unet, *places.values()):
        check_links(root if place.is_relative_to(root) else Path(str(parts)), place)
    for place in (unet, places["vae"], places["text_encoder"]):
        weight_files.check(place)
    _check_tokenizer(places["tokenizer"])
    sizes, vae = _read(_Sizes, unet), _read(_VAE, places["vae"])
    _check_fit(sizes, vae, places)
    scheduler = read_config(places["scheduler"] / "scheduler_config.json")
    scale = 2 ** (len(vae.block_out_channels) - 1)
    return checked(
        ModelFolder,
        family=family,
        unet=unet,
        **places,
        scheduler_class=_class_of(places["scheduler"], scheduler),
        solver_order=scheduler.get("solver_order", 2),
        unet_shape=_read(UNetShape, unet),
        vae_channels=vae.block_out_channels[0],
        latent_channels=sizes.in_channels,
        scale=scale,
        scaling_factor=vae.scaling_factor,
        own_size=_own_size(sizes.sample_size, scale),
        fps_cond=sizes.fps_cond,
    )


def check(job: Job, ranks: int) -> ModelFolder:
    """Return the job's model folder, or raise JobRefused if this job can't be run on so many ranks."""
    if ranks > job.frames:
        raise JobRefused(f"cannot cut {job.frames} frames into {ranks} clips: use at most {job.frames} ranks")
    folder = inspect(job.model, job.parts)
    for name, size in (("height", job.height), ("width", job.width)):
        if size % folder.scale:
            near = max(1, round(size / folder.scale)) * folder.scale
            raise JobRefused(f"{name}: wanted a multiple of {folder.scale}, got {size}: use {near}")
    if job.scheduler == "model" and folder.scheduler_class not in SCHEDULERS.values():
        raise JobRefused(f"scheduler: the model's {folder.scheduler_class} is not supported: use {', '.join(SCHEDULERS)}")
    return folder


def located(job: Job) -> Job:
    """Return a job whose folders are the same ones for whoever reads it: a rank, or who goes on from a snapshot elsewhere."""
    places = {"model": job.model, "parts": job.parts}
    return job.model_copy(update={name: place and os.path.abspath(place) for name, place in places.items()})


def _find(part: str, root: Path, parts: str | None) -> Path:
    places = [root / part] + ([Path(parts) / part] if parts else [])
    for place in places:
        if place.is_dir():
            return place
    raise JobRefused(f"model folder {root} has no {part}: give a second folder that has one as `parts`")


def _read(form: type[Shape], part: Path) -> Shape:
    """Return the sizes that a part's configuration gives; those that it leaves out or null have diffusers' defaults."""
    config = read_config(part / "config.json")
    if isinstance(config.get("text_config"), dict):  # a whole CLIP's, of which the text encoder is loaded
        config = config["text_config"]
    try:
        return checked(form, **{name: config[name] for name in form.model_fields if config.get(name) is not None})
    except JobRefused as error:
        raise JobRefused(f"{part / 'config.json'}: {error}: get the folder again") from None


def _own_size(sample_size: int | tuple[int, int] | None, scale: int) -> tuple[int, int] | None:
    """Return the height and width in pixels that a UNet's `sample_size` (one number for both, or two) stands for."""
    height, width = sample_size if isinstance(sample_size, tuple) else (sample_size, sample_size)
    return (height * scale, width * scale) if height and width else None


def _class_of(part: Path, config: dict) -> str:
    """Return the class that a part's configuration names or, if it names none, the index of the whole model."""
    named = config.get("_class_name") or config.get("architectures")
    index = part.parent / "model_index.json"
    if not named and index.is_file():
        named = read_config(index).get(part.name)
        named = named[-1:] if isinstance(named, list) else named
    return str(named[0] if isinstance(named, list) and named else named)


def _check_fit(unet: _Sizes, vae: _VAE, places: dict[str, Path]) -> None:
    """Raise JobRefused unless the parts, which may come from two folders, work together."""
    for part, wanted in CLASSES.items():
        config = read_config(places[part] / "config.json")
        kind = _class_of(places[part], config)
        if kind not in wanted and not (kind == "None" and config.get("model_type") in MODEL_TYPES):
            raise JobRefused(f"{places[part]} holds a {kind}: this version runs {wanted[0]}")
        if config.get("quantization_config"):
            raise JobRefused(f"{places[part]} holds quantized weights, which are not supported: get the full ones")
    if unet.in_channels != vae.latent_channels:
        raise JobRefused(
            f"the UNet wants latents of {unet.in_channels} channels, {places['vae']} makes {vae.latent_channels}: use another VAE"
        )
    text = _read(_Text, places["text_encoder"])
    if unet.cross_attention_dim != text.hidden_size:
        raise JobRefused(
            f"the UNet wants prompts of width {unet.cross_attention_dim}, {places['text_encoder']} makes {text.hidden_size}: use "
            "the text encoder of its family"
        )


def _check_tokenizer(place: Path) -> None:
    """Raise JobRefused unless a tokenizer is there in one of its two forms."""
    read_config(place / "tokenizer_config.json")
    forms = [[place / name for name in names] for names in (("tokenizer.json",), ("vocab.json", "merges.txt"))]
    whole = [form for form in forms if all(file.is_file() for file in form)]
    if not whole:
        raise JobRefused(f"{place} is not whole: wanted tokenizer.json, or vocab.json and merges.txt: get the folder again")
    for file in (file for form in whole for file in form):
        check_pulled(file)
