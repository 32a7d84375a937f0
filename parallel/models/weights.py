"""Weights from safetensors, complete or not at all: diffusers and transformers fill what a file lacks with noise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..folder import check_complete, variant, weight_files


def load(from_pretrained: Callable[..., Any], folder: Path, *, may_have: str | None = None) -> Any:
    """Return what `from_pretrained` loads from a folder, to be evaluated only.

    Raises JobRefused if weights are missing, or if any are left over but those whose names begin with `may_have` (an empty
    one allows all), OSError or SafetensorError if a file is cut short.
    """
    module, said = from_pretrained(
        folder, use_safetensors=True, local_files_only=True, variant=variant(folder), output_loading_info=True
    )
    left = [key for key in said["unexpected_keys"] if may_have is None or not key.startswith(may_have)]
    check_complete(folder, list(said["missing_keys"]), left)
    return module.eval().requires_grad_(False)


def read_part(folder: Path, prefix: str) -> dict[str, torch.Tensor]:
    """Return the weights whose names begin with `prefix`, under names without it."""
    found = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as weights:
            names = [name for name in weights.keys() if name.startswith(prefix)]  # noqa: SIM118 (safe_open is no mapping)
            found.update({name.removeprefix(prefix): weights.get_tensor(name) for name in names})
    return found
