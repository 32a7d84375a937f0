"""The parts of a model, each a folder or one file: where it is, and the sizes in its configuration. Nothing is unpickled or loaded."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator

from ..job.errors import JobRefused
from ..job.job import Frozen, checked
from . import weight_files
from .held_weight import HeldWeight
from .safety import check_pulled, read_config
from .single_file import SingleFile

Sizes = TypeVar("Sizes", bound=Frozen)
TRAINING = "training.json"  # of this pack's own, beside a model's parts; a released model's folder has none
# A part's folder, absolute: it means the same to a rank, and after the host went to work in another folder.
Place = Annotated[Path, AfterValidator(lambda place: Path(os.path.abspath(place)))]
Part = Place | SingleFile


def config_of(part: Part) -> dict[str, Any]:
    """Return a part's configuration: that of its folder, or what the shapes in its file say."""
    return part.config if isinstance(part, SingleFile) else read_config(part / "config.json")


def said_by(part: Part) -> Path:
    """Return the file that a part's configuration comes from."""
    return part.file if isinstance(part, SingleFile) else part / "config.json"


def count_bytes(part: Part, item: int) -> int:
    """Return the bytes that a part's weights take in memory, in a type of so many bytes a number."""
    return part.count_bytes(item) if isinstance(part, SingleFile) else item * weight_files.count_numbers(part)


def held(part: Part | None) -> Mapping[str, HeldWeight]:
    """Return the weights that stay as their file has them, by name: a folder has none."""
    return part.held if isinstance(part, SingleFile) else {}


def find(names: Iterable[str], root: Path, parts: str | None) -> dict[str, Path]:
    """Return the folders of some parts, in a model's folder or else in a second one; raise JobRefused if one is in neither."""
    return {name: _find(name, root, parts) for name in names}


def _find(name: str, root: Path, parts: str | None) -> Path:
    places = [root / name] + ([Path(parts) / name] if parts else [])
    for place in places:
        if place.is_dir():
            return place
    raise JobRefused(f"model folder {root} has no {name}: give a second folder that has one as `parts`")


def read_sizes(form: type[Sizes], part: Part) -> Sizes:
    """Return the sizes that a part's configuration gives; those that it leaves out or null have diffusers' defaults."""
    config = config_of(part)
    if isinstance(config.get("text_config"), dict):  # a whole CLIP's, of which the text encoder is loaded
        config = config["text_config"]
    try:
        return checked(form, **{name: config[name] for name in form.model_fields if config.get(name) is not None})
    except JobRefused as error:
        what = "file" if isinstance(part, SingleFile) else "folder"
        raise JobRefused(f"{said_by(part)}: {error}: get the {what} again") from None


def read_known(file: Path, known: Sizes) -> Sizes:
    """Return what a model's file says, and of what it says nothing what is known; what it says beside is nobody's business here."""
    said = read_config(file) if file.is_file() else {}
    values = {name: said[name] for name in type(known).model_fields if said.get(name) is not None}
    try:
        return checked(type(known), **{**dict(known), **values})
    except JobRefused as error:
        raise JobRefused(f"{file}: {error}: get the folder again") from None


def class_of(part: Path, config: dict[str, Any]) -> str:
    """Return the class that a part's configuration names or, if it names none, the index of the whole model."""
    named = config.get("_class_name") or config.get("architectures")
    index = part.parent / "model_index.json"
    if not named and index.is_file():
        named = read_config(index).get(part.name)
        named = named[-1:] if isinstance(named, list) else named
    return str(named[0] if isinstance(named, list) and named else named)


def check_class(part: Part, wanted: tuple[str, ...], model_types: tuple[str, ...] = ()) -> None:
    """Raise JobRefused unless a part is of one of some classes, or names none and is of one of some `model_types`.

    Nor may its weights be quantized, as diffusers does it. A single file was recognised by its weights.
    """
    if isinstance(part, SingleFile):
        return
    config = read_config(part / "config.json")
    kind = class_of(part, config)
    if kind not in wanted and not (kind == "None" and config.get("model_type") in model_types):
        raise JobRefused(f"{part} holds a {kind}: this version runs {wanted[0]}")
    if config.get("quantization_config"):
        raise JobRefused(f"{part} holds quantized weights, which are not supported: get the full ones")


def check_tokenizer(part: Path, wanted: tuple[tuple[str, ...], ...]) -> None:
    """Raise JobRefused unless a tokenizer is there in one of some forms, each of which is one file or several."""
    read_config(part / "tokenizer_config.json")
    forms = [[part / name for name in names] for names in wanted]
    whole = [form for form in forms if all(file.is_file() for file in form)]
    if not whole:
        said = ", or ".join(" and ".join(names) for names in wanted)
        raise JobRefused(f"{part} is not whole: wanted {said}: get the folder again")
    for file in (file for form in whole for file in form):
        check_pulled(file)
