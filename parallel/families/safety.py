"""What a model folder that came from anywhere must not do: run code, point elsewhere, ask for absurd sizes, be cut short."""

import json
import os
import struct
from pathlib import Path
from typing import Any

from ..job.errors import JobRefused

MAX_CONFIG = 1 << 20  # bytes; real ones have some thousands
MAX_HEADER = 100 << 20  # bytes of a .safetensors header, as the library itself allows
MAX_OWN_HEADER = 16 << 20  # of one that this pack or ComfyUI wrote latents into, the workflow included
MAX_NUMBER = 1 << 20  # of anything that a configuration sizes: the largest real ones are vocabularies
MAX_DEPTH = 128  # layers of one kind, and entries of a list
DEPTHS = ("layers_per_block", "num_hidden_layers", "num_layers", "num_res_blocks")
# What sizes a part, under its class's names. Anything else may have any value (a tokenizer's `model_max_length` of 1e30, a
# scheduler's `lambda_min_clipped` of -Infinity): nothing is made as large.
SIZES = (
    *DEPTHS, "attention_head_dim", "base_dim", "block_out_channels", "cross_attention_dim", "d_ff", "d_kv", "d_model",
    "decoder_base_dim", "dim_mult", "down_block_types", "ffn_dim", "freq_dim", "hidden_size", "in_channels", "num_heads",
    "patch_size", "rope_max_seq_len", "text_dim", "z_dim",
    "intermediate_size", "latent_channels", "max_position_embeddings", "norm_num_groups", "num_attention_heads",
    "num_train_timesteps", "out_channels", "projection_dim", "sample_size", "solver_order", "time_cond_proj_dim",
    "up_block_types", "vocab_size",
)  # fmt: skip
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def read_config(file: Path) -> dict[str, Any]:
    """Return a part's configuration; raise JobRefused if it is none, asks to run code, or for sizes that no model has."""
    if not file.is_file():
        raise JobRefused(f"{file.parent} is not a diffusers model folder: {file} is missing")
    check_pulled(file)
    if file.stat().st_size > MAX_CONFIG:
        raise JobRefused(f"{file} has {file.stat().st_size} bytes, no configuration is so long: get the folder again")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise JobRefused(f"{file} is not valid JSON ({error}): get the folder again") from None
    if not isinstance(config, dict):
        raise JobRefused(f"{file} is not a model configuration: get the folder again")
    if "auto_map" in config:
        raise JobRefused(f"{file} asks to run code of its own (auto_map): use a model that runs on diffusers' classes")
    nested = config.get("text_config")  # of a whole CLIP: its text encoder's
    for sizes in (config, nested if isinstance(nested, dict) else {}):
        check_sizes(file, sizes)
    return config


def check_sizes(file: Path, config: dict[str, Any]) -> None:
    """Raise JobRefused if a configuration asks for sizes that no model has."""
    for key in SIZES:
        _check_size(file, key, config.get(key))


def _check_size(file: Path, key: str, value: Any) -> None:
    entries = value if isinstance(value, list) else [value]
    most = MAX_DEPTH if key in DEPTHS else MAX_NUMBER
    if len(entries) > MAX_DEPTH:
        raise JobRefused(f"{file}: {key} has {len(entries)} entries, wanted at most {MAX_DEPTH}: get the folder again")
    for entry in entries:
        if isinstance(entry, (int, float)) and not abs(entry) <= most:  # so that NaN is refused, too
            raise JobRefused(f"{file}: {key}: wanted at most {most}, got {entry:g}: get the folder again")


def check_pulled(file: Path) -> None:
    """Raise JobRefused if a file is what a clone without git LFS has in its place."""
    with file.open("rb") as opened:
        if opened.read(len(LFS_POINTER)) == LFS_POINTER:
            raise JobRefused(f"{file} is a git LFS pointer and not the file itself: run `git lfs pull` in {file.parent}")


def check_links(root: Path, part: Path) -> None:
    """Raise JobRefused if a file of a part lies outside its folder, but for the shared files of a hub's cache."""
    check_files(root, part, *part.iterdir())


def check_files(root: Path, *files: Path) -> None:
    """Raise JobRefused if one of some files lies outside a folder, but for the shared files of a hub's cache."""
    home = Path(os.path.realpath(root))  # unlike Path.resolve it takes a link that leads to itself
    allowed = [home, home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [home]
    for file in files:
        target = Path(os.path.realpath(file))
        if not any(target.is_relative_to(place) for place in allowed):
            raise JobRefused(f"{file} is a link to {target}, outside its model folder: put the file itself there")


def claimed_header(file: Path) -> int:
    """Return how many bytes a .safetensors file says that its header has, before any of it is read. Raises OSError."""
    with file.open("rb") as opened:
        return int.from_bytes(opened.read(8), "little")


def weight_count(file: Path) -> int:
    """Return how many numbers a .safetensors file holds; raise JobRefused if it is cut short or none."""
    return sum(weight_counts(file).values())


def weight_counts(file: Path) -> dict[str, int]:
    """Return how many numbers each weight of a .safetensors file holds, by its name; raise what `weight_count` does."""
    check_pulled(file)
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > min(MAX_HEADER, size):
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(opened.read(length))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        if 8 + length + end != size:
            raise ValueError(f"wanted {8 + length + end} bytes, got {size}")
        return {name: _product(entry["shape"]) for name, entry in tensors.items()}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, struct.error, OSError) as error:
        raise JobRefused(f"{file} is cut short or broken ({error}): get the file again") from None


def _product(shape: list[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
