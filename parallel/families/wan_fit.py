"""Do the parts of a Wan's folder work together, and can a model have what their configurations say? Asked before any is loaded."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ..job.errors import JobRefused
from ..job.job import Frozen, checked
from . import parts
from .parts import Part
from .single_file import SingleFile
from .wan_shape import WanShape
from .wan_vae_shape import WanVAESizes

NETS = ("WanTransformer3DModel",)
VAES = ("AutoencoderKLWan",)
TEXT_ENCODERS = ("UMT5EncoderModel",)
TEXT_MODEL_TYPES = ("umt5",)
TOKENIZER = (("tokenizer.json",),)
FRAMES = 4  # of a latent, of all released VAEs, which models/wan_vae.py reckons with
Shift = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]


class TextSizes(Frozen):
    """The sizes of a text encoder."""

    d_model: int = 4096


class VAEForm(Frozen):
    """How a VAE packs a video: what its layers make of it, and what its configuration says that they do."""

    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    temperal_downsample: tuple[bool, ...] = (False, True, True)
    patch_size: int = 1
    scale_factor_spatial: int = 8
    scale_factor_temporal: int = 4
    latents_mean: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = ()
    latents_std: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()


class Schedule(Frozen):
    """What of a scheduler's configuration must be as it is released: steps draw no noise, and see the same at any length.

    Of other spacings of noise than that of flow matching some of diffusers' classes make numbers that are not finite.
    """

    num_train_timesteps: Literal[1000] = 1000
    flow_shift: Shift | None = None
    shift: Shift | None = None
    stochastic_sampling: Literal[False] = False
    use_dynamic_shifting: Literal[False] = False
    use_karras_sigmas: Literal[False] = False
    use_exponential_sigmas: Literal[False] = False
    use_beta_sigmas: Literal[False] = False
    use_lu_lambdas: Literal[False] = False
    invert_sigmas: Literal[False] = False


def check(shape: WanShape, vae: WanVAESizes, places: Mapping[str, Part]) -> None:
    """Raise JobRefused unless the parts, which may come from two folders, work together."""
    parts.check_class(places["transformer"], NETS)
    parts.check_class(places["vae"], VAES)
    _check_net(shape, places["transformer"])
    _check_vae(vae, places["vae"])
    if shape.out_channels != vae.z_dim:
        raise JobRefused(
            f"the transformer wants latents of {shape.out_channels} channels, {places['vae']} makes {vae.z_dim}: use another VAE"
        )
    if "text_encoder" in places:
        _check_text(shape, places["text_encoder"], places["tokenizer"])
    if "transformer_2" in places:
        parts.check_class(places["transformer_2"], NETS)
        second = parts.read_sizes(WanShape, places["transformer_2"])
        if second != shape:
            raise JobRefused(f"{places['transformer_2']} has other sizes than {places['transformer']}: get the folder again")


def check_schedule(file: Path, config: dict[str, Any]) -> None:
    """Raise JobRefused if a scheduler's configuration asks for what would make a latent depend on others, or for no schedule."""
    said = {name: config[name] for name in Schedule.model_fields if config.get(name) is not None}
    try:
        checked(Schedule, **said)
    except JobRefused as error:
        raise JobRefused(f"{file}: {error}: use the scheduler of a released Wan") from None


def _check_text(shape: WanShape, encoder: Part, tokenizer: Part) -> None:
    parts.check_class(encoder, TEXT_ENCODERS, TEXT_MODEL_TYPES)
    _check_tokenizer(tokenizer)
    text = parts.read_sizes(TextSizes, encoder)
    if shape.text_dim != text.d_model:
        raise JobRefused(
            f"the transformer wants prompts of width {shape.text_dim}, {encoder} makes {text.d_model}: use the text encoder of its family"
        )


def _check_tokenizer(part: Part) -> None:
    if isinstance(part, SingleFile):
        return
    if (part / "spiece.model").is_file() and not (part / "tokenizer.json").is_file():
        raise JobRefused(
            f"{part} has a spiece.model alone, which only the package sentencepiece reads: get its tokenizer.json, too"
        )
    parts.check_tokenizer(part, TOKENIZER)


def _check_net(shape: WanShape, part: Part) -> None:
    if shape.condition_channels not in (0, FRAMES + shape.out_channels):
        raise JobRefused(
            f"{part} wants {shape.in_channels} channels, and makes {shape.out_channels}: this version runs nets that make videos from "
            f"text ({shape.out_channels}) or from images ({2 * shape.out_channels + FRAMES}): use one of those"
        )
    if (shape.image_dim is None) != (shape.added_kv_proj_dim is None) or (shape.image_dim and not shape.condition_channels):
        raise JobRefused(
            f"{parts.said_by(part)}: image_dim, added_kv_proj_dim: wanted both, of a net that makes videos from images, or neither: "
            "get the folder again"
        )
    time, height, width = shape.patch_size
    if time != 1 or height != width:
        raise JobRefused(
            f"{parts.said_by(part)}: patch_size: wanted 1 latent a token and a square of it, got {list(shape.patch_size)}: get the "
            "folder again"
        )
    if shape.attention_head_dim % 2:
        raise JobRefused(
            f"{parts.said_by(part)}: attention_head_dim: wanted an even number, got {shape.attention_head_dim}: get the folder "
            "again"
        )


def _check_vae(vae: WanVAESizes, part: Part) -> None:
    form = parts.read_sizes(VAEForm, part)
    if not len(vae.latents_mean) == len(vae.latents_std) == vae.z_dim:
        raise JobRefused(f"{part}: latents_mean, latents_std: wanted {vae.z_dim} numbers each: get the folder again")
    spatial = 2 ** (len(form.dim_mult) - 1) * form.patch_size
    temporal = 2 ** sum(form.temperal_downsample)
    for name, made in (("scale_factor_spatial", spatial), ("scale_factor_temporal", temporal)):
        if getattr(form, name) != made:
            raise JobRefused(
                f"{parts.said_by(part)}: {name}: wanted {made}, as its layers make it, got {json.dumps(getattr(form, name))}: get the "
                "folder again"
            )
    if temporal != FRAMES:
        raise JobRefused(f"{part} packs {temporal} frames into a latent: this version runs VAEs that pack {FRAMES}")
