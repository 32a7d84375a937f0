"""Where a model lies that people have as single files, and the LoRAs that are put into it."""

import os
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .frozen import Frozen

Net = Literal["all", "high", "low"]
MAX_LORAS = 64


class ModelFiles(Frozen):
    """The files beside that of a net; what none is given for comes from `parts`."""

    model_low: str | None = Field(None, description="of Wan 2.2 A14B: the net for low noise")
    vae: str | None = None
    text_encoder: str | None = None
    clip_vision: str | None = Field(None, description="of nets that look at pictures: CLIP's vision tower")


class Lora(Frozen):
    """A LoRA's file, how much of it is added, and to which of a model's nets."""

    file: Annotated[str, Field(min_length=1), AfterValidator(os.path.abspath)]
    strength: float = Field(1.0, ge=-100, le=100, allow_inf_nan=False)
    net: Net = "all"
