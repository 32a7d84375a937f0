"""Weights from safetensors, complete or not at all: diffusers and transformers fill what a file lacks with noise."""

from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from safetensors import safe_open

from ..errors import JobRefused
from ..folder import check_complete, variant, weight_files
from ..safety import weight_count

SLACK = 1.25  # a configuration may make this many times the numbers that its files hold: libraries fill in constants


def load(kind: Any, folder: Path, *, may_have: str | None = None, **options: Any) -> Any:
    """Return a model of a class of diffusers' or transformers' from a folder, to be evaluated only.

    `options` are those of its `from_pretrained`. Raises JobRefused if the configuration asks for more than the files hold,
    before any of it is reserved; if weights are missing; or if any are left over but those whose names begin with `may_have`
    (an empty one allows all). Raises OSError or SafetensorError if a file is cut short.
    """
    claimed, held = count(kind, folder), sum(map(weight_count, weight_files(folder)))
    if claimed > SLACK * held + 1000:
        raise JobRefused(f"{folder / 'config.json'} asks for {claimed} numbers, its files hold {held}: get the folder again")
    module, said = kind.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, variant=variant(folder), output_loading_info=True, **options
    )
    left = [key for key in said["unexpected_keys"] if may_have is None or not key.startswith(may_have)]
    check_complete(folder, list(said["missing_keys"]), left)
    return module.eval().requires_grad_(False)


def count(kind: Any, folder: Path) -> int:
    """Return how many numbers a model of a folder's configuration has, without reserving them."""
    with torch.device("meta"):
        if issubclass(kind, ModelMixin):
            module = kind.from_config(kind.load_config(folder, local_files_only=True))
        else:
            module = kind(kind.config_class.from_pretrained(folder, local_files_only=True))
    return sum(parameter.numel() for parameter in module.parameters())


def read_part(folder: Path, prefix: str) -> dict[str, torch.Tensor]:
    """Return the weights whose names begin with `prefix`, under names without it."""
    found = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as weights:
            names = [name for name in weights.keys() if name.startswith(prefix)]  # noqa: SIM118 (safe_open is no mapping)
            found.update({name.removeprefix(prefix): weights.get_tensor(name) for name in names})
    return found
