"""The families that this version runs: the class of the net that denoises -> the family's host half.

A new family has its host half in a file beside these, its rank half in a file of models/, and a line in both tables. Who asks a
model something gets the answer of its family, and a type checker says what a new one has not answered.
"""

from typing import Annotated

from pydantic import Field

from .unet3d import UNet3D
from .wan import Wan

FAMILIES: dict[str, type[UNet3D] | type[Wan]] = {"UNet3DConditionModel": UNet3D, "WanTransformer3DModel": Wan}
IN_FILES = (Wan,)  # those whose nets people have as single files
ModelFolder = Annotated[UNet3D | Wan, Field(discriminator="family")]
