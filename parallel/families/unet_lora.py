"""Which layers of a UNet a LoRA may change: those of its files' weights, by diffusers' names, which kohya's are with underscores."""

from pathlib import Path

from . import lora, weight_files
from .lora import LoraFile, Target
from .tensor_file import read_safetensors


def targets(unet: Path) -> dict[str, Target]:
    """Return the layers of a UNet's folder, by name; raise JobRefused if a file of its weights is broken."""
    shapes = {name: entry.shape for file in weight_files.find(unet) for name, entry in read_safetensors(file).entries.items()}
    layers = {name.removesuffix(".weight"): shape for name, shape in shapes.items() if name.endswith(".weight")}
    return {
        layer: Target(f"{layer}.weight", shape, f"{layer}.bias" if f"{layer}.bias" in shapes else None)
        for layer, shape in layers.items()
    }


def read(file: str, unet: Path) -> LoraFile:
    """Return what a LoRA changes of a UNet; raise JobRefused if it can't be put into it."""
    known = targets(unet)
    processors = {layer.replace(".to_", ".processor.to_").removesuffix(".0"): layer for layer in known if ".to_" in layer}
    return lora.read(file, known, {**processors, **{layer: layer for layer in known}})
