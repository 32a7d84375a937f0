"""The families that this version runs: the class of the net that denoises -> the family's host half.

A new family has its host half in a file beside unet3d.py, and a line here. Once there are two, `ModelFolder` is their union,
told apart by the field `family`: who asks a model something gets the answer of its family, and a type checker says what the new
one has not answered. This table knows the host half alone: of the rank half there is none yet, and the sampler calls
models/unet3d.py and diffusers' UNet and VAE by name (load.py, encode.py, sample.py, denoise.py, decode.py).
"""

from .unet3d import UNet3D

FAMILIES = {"UNet3DConditionModel": UNet3D}
ModelFolder = UNet3D
