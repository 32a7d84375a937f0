"""The rank half of each family, by the name that its host half has (families/table.py)."""

from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from ..families.table import ModelFolder
from .model import Model
from .unet3d import UNet3DModel
from .wan import WanModel

FAMILIES: dict[str, Any] = {"UNet3DConditionModel": UNet3DModel, "WanTransformer3DModel": WanModel}


TEXT_RANK = 0  # has the text encoder where ranks share it, and what looks at pictures


def load(folder: ModelFolder, dtype: torch.dtype, *, rank: int = TEXT_RANK, reads: bool = True, looks: bool = True) -> Model:
    """Load all parts that a rank needs into host memory from safetensors; each rank has a copy of its own.

    Where ranks share large encoders, that of text is left out unless it `reads`, that of pictures unless it `looks`: a job may come
    with what they would say.

    Raises JobRefused if weights are missing or of another shape, or if the layers do not fit the installed diffusers; OSError
    or SafetensorError if a file is cut short.
    """
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    is_first = rank == TEXT_RANK
    return FAMILIES[folder.family].load(
        folder, dtype, with_text=(is_first and reads) or not folder.shares_text, looks=is_first and looks
    )
