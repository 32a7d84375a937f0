"""The families that this version runs: the class of the net that denoises -> the family's host half.

A new family is one file beside unet3d.py, one line here, and its rank half in models/. Once there are two, `ModelFolder` is
their union, told apart by the field `family`: whoever asks a model something gets the answer of its family, and a type checker
says what the new one has not answered.
"""

from .unet3d import UNet3D

FAMILIES = {"UNet3DConditionModel": UNet3D}
ModelFolder = UNet3D
