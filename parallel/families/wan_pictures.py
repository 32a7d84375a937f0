"""The part of Wan 2.1's image-to-video models that looks at a picture: CLIP's vision tower, and how pictures are brought to its size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from ..job.errors import JobRefused
from ..job.job import Frozen, checked
from . import parts
from .parts import Part
from .safety import read_config
from .single_file import SingleFile
from .wan_shape import WanShape

ENCODERS = ("CLIPVisionModel", "CLIPVisionModelWithProjection", "CLIPModel")
MODEL_TYPES = ("clip_vision_model", "clip")
PREPROCESSOR = "preprocessor_config.json"
Share = Annotated[float, Field(allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1, le=4096)]


class PictureSizes(Frozen):
    """The sizes of a vision tower, under transformers' names and with its defaults."""

    hidden_size: int = 768
    image_size: Side = 224
    patch_size: Side = 32
    num_hidden_layers: int = Field(12, ge=1)

    @property
    def tokens(self) -> int:
        """Tokens of a picture: its patches, and one for the whole."""
        return (self.image_size // self.patch_size) ** 2 + 1


class Preprocessor(Frozen):
    """How a picture becomes what a vision tower takes: scaled (bicubic) by its shorter side, its middle cut out, normalized."""

    size: Side = 224  # of the shorter side
    crop_size: tuple[Side, Side] = (224, 224)  # height and width
    image_mean: tuple[Share, Share, Share] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[Share, Share, Share] = (0.26862954, 0.26130258, 0.27577711)

    @field_validator("size", mode="before")
    @classmethod
    def _read_size(cls, said: Any) -> Any:
        return said.get("shortest_edge") if isinstance(said, dict) else said

    @field_validator("crop_size", mode="before")
    @classmethod
    def _read_crop_size(cls, said: Any) -> Any:
        if isinstance(said, dict):
            return said.get("height"), said.get("width")
        return (said, said) if isinstance(said, int) else said

    @field_validator("image_std")
    @classmethod
    def _check_std(cls, said: tuple[float, ...]) -> tuple[float, ...]:
        if min(said) <= 0:
            raise ValueError(f"image_std: wanted numbers above 0, got {list(said)}")
        return said


class Looking(Frozen):
    """What a net that takes pictures' tokens does with them; without a vision tower they come encoded with each job."""

    width: int = Field(ge=1, description="of a token")
    tokens: int | None = Field(ge=1, description="of a picture; None: any number, where neither tower nor net tells")
    preprocessor: Preprocessor | None = Field(description="of the vision tower; None: there is none")
    pictures: int = Field(ge=1, le=2, description="that the net takes the tokens of: the first one, or the first and the last")


def read_looking(shape: WanShape, places: Mapping[str, Part]) -> Looking | None:
    """Return how a model looks at pictures, None if its net takes no tokens of them; raise JobRefused if a part does not fit."""
    if shape.image_dim is None:
        return None
    net, encoder, processor = places["transformer"], places.get("image_encoder"), places.get("image_processor")
    if encoder is None and isinstance(net, SingleFile):
        return _looks_not(net, shape.image_dim, shape.pos_embed_seq_len)
    if encoder is None or (processor is None and not isinstance(encoder, SingleFile)):
        lacks = "image_encoder" if encoder is None else "image_processor"
        raise JobRefused(
            f"model folder {parts.said_by(net).parents[1]} has no {lacks}, whose tokens its net wants: get the folder again"
        )
    parts.check_class(encoder, ENCODERS, MODEL_TYPES)
    sizes = parts.read_sizes(PictureSizes, encoder)
    if sizes.hidden_size != shape.image_dim:
        raise JobRefused(
            f"the transformer wants pictures' tokens of width {shape.image_dim}, {encoder} makes {sizes.hidden_size}: "
            "use the image encoder of its family"
        )
    pictures = 1
    if shape.pos_embed_seq_len is not None:
        pictures = 2
        if shape.pos_embed_seq_len != pictures * sizes.tokens:
            raise JobRefused(
                f"{parts.said_by(net)}: pos_embed_seq_len: wanted {pictures * sizes.tokens}, the tokens of two pictures, got "
                f"{shape.pos_embed_seq_len}: get the folder again"
            )
    if isinstance(processor, Path):
        how = _read_preprocessor(processor, sizes)
    else:  # a file has none: the values of CLIP's makers, which are the defaults here
        how = Preprocessor(size=sizes.image_size, crop_size=(sizes.image_size, sizes.image_size))
    return Looking(width=sizes.hidden_size, tokens=sizes.tokens, preprocessor=how, pictures=pictures)


def _looks_not(net: SingleFile, width: int, places: int | None) -> Looking:
    """Return what a net without a vision tower takes; it has a place for each token of two pictures, or takes one picture's."""
    if places is not None and (places < 2 or places % 2):
        raise JobRefused(f"{net}: emb_pos: wanted the tokens of two pictures, got {places}: get the file again")
    tokens = None if places is None else places // 2
    return Looking(width=width, tokens=tokens, preprocessor=None, pictures=1 if places is None else 2)


def _read_preprocessor(part: Path, sizes: PictureSizes) -> Preprocessor:
    file = part / PREPROCESSOR
    said = read_config(file)
    known = {name: said[name] for name in Preprocessor.model_fields if said.get(name) is not None}
    try:
        found = checked(Preprocessor, **known)
    except JobRefused as error:
        raise JobRefused(f"{file}: {error}: get the folder again") from None
    if found.crop_size != (sizes.image_size, sizes.image_size):
        raise JobRefused(
            f"{file}: crop_size: wanted {sizes.image_size} as the image encoder takes, got {list(found.crop_size)}: get the folder again"
        )
    return found
