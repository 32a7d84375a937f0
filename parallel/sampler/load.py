"""Load: a model folder -> modules on this rank's device."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers import AutoTokenizer, CLIPTextModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from ..folder import ModelFolder, check_complete, variant
from ..models import unet3d
from ..protocol import Offload


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
    """Load all parts into host memory from safetensors (memory-mapped, so that ranks on one host share the page cache).

    Raises JobRefused if weights are missing, OSError or SafetensorError if a file is cut short.
    """
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    return Model(
        folder=folder,
        dtype=dtype,
        unet=unet3d.load(folder.unet, dtype, fps_cond=folder.fps_cond),
        vae=load_vae(folder.vae, dtype),
        text_encoder=load_text_encoder(folder.text_encoder, dtype),
        tokenizer=AutoTokenizer.from_pretrained(folder.tokenizer, local_files_only=True),
    )


def load_vae(folder: Path, dtype: torch.dtype) -> AutoencoderKL:
    """Load a VAE; raise JobRefused if weights are missing."""
    vae, said = AutoencoderKL.from_pretrained(
        folder,
        torch_dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        low_cpu_mem_usage=False,
        variant=variant(folder),
        output_loading_info=True,
    )
    check_complete(folder, said["missing_keys"], [])
    return vae.eval()


def load_text_encoder(folder: Path, dtype: torch.dtype) -> CLIPTextModel:
    """Load a text encoder; raise JobRefused if weights are missing."""
    encoder, said = CLIPTextModel.from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        variant=variant(folder),
        output_loading_info=True,
    )
    check_complete(folder, said["missing_keys"], [])
    return encoder.eval()


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
