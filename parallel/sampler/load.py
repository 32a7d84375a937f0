"""Load: a model folder -> modules on this rank's device."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers import AutoTokenizer, CLIPTextModel, CLIPTokenizerFast, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from ..families.table import ModelFolder
from ..job.job import Offload
from ..models import trial, unet3d, weights


@dataclass(frozen=True)
class Model:
    """What a rank keeps warm between jobs."""

    folder: ModelFolder
    dtype: torch.dtype
    unet: UNet3DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: PreTrainedTokenizerBase


def load(folder: ModelFolder, dtype: torch.dtype) -> Model:
    """Load all parts into host memory from safetensors; each rank has a copy of its own.

    Raises JobRefused if weights are missing or of another shape, or if the layers do not fit the installed diffusers; OSError
    or SafetensorError if a file is cut short.
    """
    trial.check_diffusers()
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    return Model(
        folder=folder,
        dtype=dtype,
        unet=unet3d.load(folder.unet, dtype, fps_cond=folder.fps_cond),
        vae=weights.load(AutoencoderKL, folder.vae, dtype, may_have=""),
        text_encoder=weights.load(CLIPTextModel, folder.text_encoder, dtype, may_have=""),
        tokenizer=_tokenizer(folder.tokenizer),
    )


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer of the class that its configuration names or, if it names none, CLIP's."""
    named = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("tokenizer_class")
    kind = AutoTokenizer if named else CLIPTokenizerFast
    return kind.from_pretrained(folder, local_files_only=True)


def settle(model: Model, device: torch.device, offload: Offload) -> None:
    """Put a model where it waits for its phases: all of it on the device or, with `parts`, in host memory."""
    for part in (model.unet, model.vae, model.text_encoder):
        part.to("cpu" if offload == "parts" else device)


@contextmanager
def resident(part: torch.nn.Module, device: torch.device, offload: Offload) -> Iterator[None]:
    """Have a part of a settled model on the device inside the block."""
    part.to(device)
    try:
        yield
    finally:
        if offload == "parts":
            part.to("cpu")
