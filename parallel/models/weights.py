"""Weights from safetensors, complete or not at all: diffusers and transformers fill what a file lacks with noise."""

import math
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import ModelMixin
from packaging.version import Version
from safetensors import safe_open
from transformers import PreTrainedModel

from ..families import weight_files
from ..families.parts import Part
from ..families.single_file import SingleFile
from ..job.errors import JobRefused
from . import single_file
from .spelling import spelled, tower_of

SLACK = 1.25  # a configuration may make this many times the numbers that its files hold: libraries fill in constants
# transformers 4.56 renamed a keyword, and took the old one for a while.
DTYPE = "dtype" if Version(transformers.__version__) >= Version("4.56") else "torch_dtype"
Shapes = dict[str, tuple[int, ...]]  # of weights, by name


def load(kind: Any, folder: Part, dtype: torch.dtype, *, may_have: str | None = None) -> Any:
    """Return a model of a class of diffusers' or transformers' from a folder or a file, to be evaluated only.

    Raises JobRefused if the configuration asks for more than the files hold, before any of it is reserved; if weights are
    missing, or of another shape; or if any are left over but those whose names begin with `may_have` (an empty one allows
    all). Raises OSError or SafetensorError if a file is cut short.
    """
    if isinstance(folder, SingleFile):
        return single_file.load(kind, folder, dtype)
    wanted, held = shapes(kind, folder), weight_files.count_numbers(folder)
    claimed = sum(map(math.prod, wanted.values()))
    if claimed > SLACK * held + 1000:
        raise JobRefused(f"{folder / 'config.json'} asks for {claimed} numbers, its files hold {held}: get the folder again")
    from_files = _transformers if issubclass(kind, PreTrainedModel) else _diffusers
    module, said = from_files(kind, folder, dtype, wanted)
    left = [key for key in said["unexpected_keys"] if may_have is None or not key.startswith(may_have)]
    weight_files.check_complete(folder, list(said["missing_keys"]), left)
    return module.eval().requires_grad_(False)


def load_by_name(kind: Any, folder: Part, dtype: torch.dtype) -> Any:
    """Return a model of a class of diffusers' whose files have today's names, to be evaluated only; raise what `load` does.

    Each weight is read into its place, with no copy of the model beside it. What the class keeps in float32 stays so. Buffers that
    no file holds are on the device `meta`: the caller makes them.
    """
    if isinstance(folder, SingleFile):
        return single_file.load(kind, folder, dtype)
    stored = stored_shapes(folder)
    with torch.device("meta"):
        module = kind.from_config(kind.load_config(folder, local_files_only=True))
    wanted = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    weight_files.check_complete(folder, sorted(wanted.keys() - stored.keys()), sorted(stored.keys() - wanted.keys()))
    _check_shapes(folder, stored, wanted)
    precise = tuple(kind._keep_in_fp32_modules or ())
    for file in weight_files.find(folder):
        with safe_open(file, framework="pt") as weights:
            found = {}
            for name in weights.keys():  # noqa: SIM118 (safe_open is no mapping)
                own = torch.float32 if any(part in name for part in precise) else dtype
                found[name] = weights.get_tensor(name).to(own)
        module.load_state_dict(found, strict=False, assign=True)  # of a file at once: each call goes through all modules
    return module.eval().requires_grad_(False)


def _diffusers(kind: Any, folder: Path, dtype: torch.dtype, wanted: Shapes) -> tuple[Any, dict]:
    """Load by diffusers, which knows older names of weights."""
    _check_shapes(folder, stored_shapes(folder), wanted)
    return kind.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, variant=weight_files.variant(folder), low_cpu_mem_usage=False,
        torch_dtype=dtype, output_loading_info=True,
    )  # fmt: skip


def _transformers(kind: Any, folder: Path, dtype: torch.dtype, wanted: Shapes) -> tuple[Any, dict]:
    """Load by transformers, but for the reading of files: each of its versions refuses some that others wrote."""
    tower = tower_of(kind)
    _check_shapes(folder, spelled(stored_shapes(folder), wanted, tower), wanted)
    config = kind.config_class.from_pretrained(folder, local_files_only=True)
    weights = spelled(read_part(folder, ""), wanted, tower)
    return kind.from_pretrained(None, config=config, state_dict=weights, output_loading_info=True, **{DTYPE: dtype})


def _check_shapes(folder: Path, got: Shapes, wanted: Shapes) -> None:
    for name in sorted(wanted.keys() & got.keys()):
        if wanted[name] != got[name]:
            said = f"says that {name} is {list(wanted[name])}, its file holds {list(got[name])}"
            raise JobRefused(f"{folder / 'config.json'} {said}: get the folder again")


def shapes(kind: Any, folder: Path) -> Shapes:
    """Return the shapes of the weights that a folder's configuration asks for, without reserving them."""
    with torch.device("meta"):
        if issubclass(kind, ModelMixin):
            module = kind.from_config(kind.load_config(folder, local_files_only=True))
        else:
            module = kind(kind.config_class.from_pretrained(folder, local_files_only=True))
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def stored_shapes(folder: Path) -> Shapes:
    """Return the shapes of the weights in a folder's files."""
    found = {}
    for file in weight_files.find(folder):
        with safe_open(file, framework="pt") as weights:
            found.update({name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()})  # noqa: SIM118
    return found


def read_part(folder: Path, prefix: str) -> dict[str, torch.Tensor]:
    """Return the weights whose names begin with `prefix`, under names without it."""
    found = {}
    for file in weight_files.find(folder):
        with safe_open(file, framework="pt") as weights:
            names = [name for name in weights.keys() if name.startswith(prefix)]  # noqa: SIM118 (safe_open is no mapping)
            found.update({name.removeprefix(prefix): weights.get_tensor(name) for name in names})
    return found
