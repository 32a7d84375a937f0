"""Wan in single files: a net, a VAE, UMT5 and CLIP's vision tower, recognised by what a file holds and never by its name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..job.errors import JobRefused
from . import gguf_tokenizer, single_file, wan_configs
from .quantization import Weight
from .safety import check_sizes
from .single_file import Kind, Role, SingleFile
from .tensor_file import TensorFile
from .wan_configs import Shapes

Configure = Callable[[Path, Shapes], dict[str, Any]]


def find_net(file: Path) -> SingleFile | None:
    """Return the Wan net that a file holds, None if it holds none; raise JobRefused if it can't be run."""
    return _find(file, "wan net", wan_configs.net)


def read_vae(file: Path) -> SingleFile:
    """Return the Wan VAE that a file holds; raise JobRefused if it holds none."""
    return _found(file, "vae", "a Wan VAE, such as wan_2.1_vae.safetensors", _find(file, "wan vae", wan_configs.vae))


def read_text_encoder(file: Path) -> SingleFile:
    """Return the UMT5 that a file holds; raise JobRefused if it holds none."""
    wanted = "a UMT5 as ComfyUI has it, such as umt5_xxl_fp8_e4m3fn_scaled.safetensors"
    return _found(file, "text encoder", wanted, _find(file, "umt5", wan_configs.umt5))


def read_image_encoder(file: Path) -> SingleFile:
    """Return CLIP's vision tower that a file holds; raise JobRefused if it holds none."""
    wanted = "CLIP's vision tower, such as clip_vision_h.safetensors"
    return _found(file, "image encoder", wanted, _find(file, "clip vision", wan_configs.clip_vision))


def has_vocabulary(part: SingleFile) -> bool:
    """Say whether a text encoder's file has its tokenizer, too; raise JobRefused if that is broken."""
    found = single_file.read(part.file)
    if gguf_tokenizer.is_there(found):
        gguf_tokenizer.check(found, part.config["vocab_size"])
        return True
    return single_file.vocabulary_of(found) is not None


def roles_in(file: Path) -> frozenset[Role]:
    """Return what of a model a file can be; raise JobRefused if that can't be read."""
    found = single_file.read(file)
    kinds = {role: kind for role, (kind, _) in ROLES.items() if single_file.prefix_of(found, kind) is not None}
    return frozenset(role for role, kind in kinds.items() if _can_be(found, kind, ROLES[role][1]))


def _can_be(found: TensorFile, kind: Kind, configure: Configure) -> bool:
    try:
        _configured(found, single_file.weights(found, kind), configure)
    except JobRefused:
        return False
    return True


def _found(file: Path, what: str, wanted: str, part: SingleFile | None) -> SingleFile:
    if part is None:
        raise JobRefused(f"{what} {file} holds none that this version knows: wanted {wanted}")
    return part


def _find(file: Path, kind: Kind, configure: Configure) -> SingleFile | None:
    found = single_file.read(file)
    if single_file.prefix_of(found, kind) is None:
        return None
    held = single_file.weights(found, kind)
    return single_file.described(found, kind, _configured(found, held, configure), held)


def _configured(found: TensorFile, held: dict[str, Weight], configure: Configure) -> dict[str, Any]:
    try:
        config = configure(found.file, {name: weight.entry.shape for name, weight in held.items()})
    except KeyError as error:
        raise JobRefused(f"{found.file} lacks {error.args[0]}: get the file again") from None
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise JobRefused(f"{found.file} holds weights of odd shapes ({error}): get the file again") from None
    check_sizes(found.file, config)
    return config


# What of a model a file can be -> the kind of weights that it has then, and what reads their shapes.
ROLES: dict[Role, tuple[Kind, Configure]] = {
    "model": ("wan net", wan_configs.net),
    "vae": ("wan vae", wan_configs.vae),
    "text_encoder": ("umt5", wan_configs.umt5),
    "clip_vision": ("clip vision", wan_configs.clip_vision),
}
