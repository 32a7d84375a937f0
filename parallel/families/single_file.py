"""A part of a model in one file of the kind that ComfyUI has: what it is was read off the names and shapes of its weights."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ..job.errors import JobRefused
from ..job.job import Frozen
from . import umt5_names, wan_names, wan_vae_names
from .gguf_file import is_gguf, read_gguf
from .held_weight import HeldWeight
from .quantization import Weight, read_weights
from .tensor_file import TensorFile, check_regular, read_safetensors

Kind = Literal["wan net", "wan vae", "umt5", "clip vision"]
Role = Literal["model", "vae", "text_encoder", "clip_vision"]  # what of a model a file can be
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
# The bytes of a tokenizer, of the package sentencepiece's form, beside a text encoder's weights; in a checkpoint, and alone.
VOCABULARY = "spiece_model"
VOCABULARIES = (f"text_encoders.umt5xxl.{VOCABULARY}", VOCABULARY)
NO_SENTENCEPIECE = (
    "needs the package sentencepiece for its tokenizer: install it with ComfyUI's own Python (python -m pip install sentencepiece), or "
    "give a folder with a tokenizer as parts"
)
MAX_VOCABULARY = 64 << 20
# A file may hold several models: what stands before the names of one.
PREFIXES = (
    "", "model.diffusion_model.", "diffusion_model.", "model.", "transformer.", "vae.", "first_stage_model.", "text_encoder.",
    "text_encoders.umt5xxl.transformer.",
)  # fmt: skip
NOT_WEIGHTS: dict[str, tuple[str, ...]] = {
    "umt5": (VOCABULARY, "logit_scale"),
    "clip vision": ("visual_projection.weight", "logit_scale"),
}
# Of transformers' embeddings, which are looked up and multiply nothing.
TABLES = ("shared.weight", "embed_tokens.weight", "relative_attention_bias.weight", "position_embedding.weight")
MARKS: dict[str, tuple[str, ...]] = {
    "wan net": wan_names.MARKS,
    "wan vae": (wan_vae_names.MARK, wan_vae_names.DIFFUSERS_MARK),
    "umt5": ("encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight", umt5_names.MARK),
    "clip vision": ("vision_model.post_layernorm.weight",),
}


class SingleFile(Frozen):
    """A part, and its configuration as its folder would have it. It travels to the ranks, which read the weights."""

    file: Annotated[Path, AfterValidator(lambda place: Path(os.path.abspath(place)))]
    kind: Kind
    config: dict[str, Any]
    plain_numbers: int = Field(ge=0, description="numbers that are loaded in a job's type")
    held: dict[str, HeldWeight] = Field({}, description="weights that stay as they are in the file, by their names")
    changed: int = Field(
        0, description="when the file was written, in nanoseconds: one that came in its place is another model"
    )

    def __str__(self) -> str:
        return str(self.file)

    def count_bytes(self, item: int) -> int:
        """Return the bytes that its weights take in memory, in a type of so many bytes a number."""
        return item * self.plain_numbers + sum(weight.bytes for weight in self.held.values())


def read(file: Path) -> TensorFile:
    """Return what a file of weights holds; raise JobRefused if it is none, broken, or a pickle."""
    check_regular(file)
    if file.suffix.lower() in PICKLES:
        raise JobRefused(
            f"{file} is a pickle, which can run code: get it as .safetensors or .gguf, or convert it in ComfyUI (Save Checkpoint, ModelSave)"
        )
    return read_gguf(file) if is_gguf(file) else read_safetensors(file)


def prefix_of(found: TensorFile, kind: str) -> str | None:
    """Return what stands before the names of a model of a kind in a file; None if it holds none."""
    for prefix in PREFIXES:
        if any(prefix + mark in found.entries for mark in MARKS[kind]):
            return prefix
    return None


def vocabulary_of(found: TensorFile) -> str | None:
    """Return the name of the tokenizer in a text encoder's file; None if it has none."""
    for name in VOCABULARIES:
        entry = found.entries.get(name)
        if entry is not None and entry.kind in ("U8", "I8") and entry.numbers <= MAX_VOCABULARY:
            return name
    return None


def weights(found: TensorFile, kind: str) -> dict[str, Weight]:
    """Return a file's weights of a model of a kind, by the names that diffusers and transformers have for them."""
    prefix = prefix_of(found, kind)
    assert prefix is not None, "asked before"
    hidden = {name for name in NOT_WEIGHTS.get(kind, ()) if prefix + name in found.entries}
    shown = {name: entry for name, entry in found.entries.items() if name.removeprefix(prefix) not in hidden}
    held = read_weights(TensorFile(found.file, shown, found.metadata), prefix)
    names = RENAMED[kind](held) if kind in RENAMED else {name: name for name in held}
    renamed = {names[name]: weight for name, weight in held.items()}
    if len(renamed) < len(held):
        raise JobRefused(f"{found.file} holds weights twice, by two names: get the file again")
    return renamed


RENAMED: dict[str, Callable[[Iterable[str]], dict[str, str]]] = {
    "wan net": lambda names: {name: wan_names.to_diffusers(name) for name in names},
    "wan vae": wan_vae_names.to_diffusers,
    "umt5": umt5_names.to_transformers,
}


def described(found: TensorFile, kind: Kind, config: dict[str, Any], held: dict[str, Weight]) -> SingleFile:
    """Return a part whose configuration is known."""
    stays = {name: HeldWeight.of(weight) for name, weight in held.items() if _stays(name, weight)}
    return SingleFile(
        file=found.file,
        kind=kind,
        config=config,
        changed=found.file.stat().st_mtime_ns,
        plain_numbers=sum(weight.entry.numbers for name, weight in held.items() if name not in stays),
        held=stays,
    )


def _stays(name: str, weight: Weight) -> bool:
    """Say whether a weight is one that linear layers keep as it is; tables and convolutions have numbers."""
    return weight.is_quantized and len(weight.entry.shape) == 2 and name.endswith(".weight") and not name.endswith(TABLES)
