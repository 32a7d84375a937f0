"""A Wan VAE's weights under the names that its makers gave them, and that ComfyUI's own loader knows."""

import re

import torch

RENAMED = (
    (r"^quant_conv\.", "conv1."),
    (r"^post_quant_conv\.", "conv2."),
    (r"\.conv_in\.", ".conv1."),
    (r"\.norm_out\.", ".head.0."),
    (r"\.conv_out\.", ".head.2."),
    (r"\.mid_block\.attentions\.0\.", ".middle.1."),
    (r"\.mid_block\.resnets\.(\d)\.", lambda found: f".middle.{2 * int(found[1])}."),
    (r"\.down_blocks\.(\d)\.resnets\.(\d)\.", r".downsamples.\1.downsamples.\2."),  # of 2.2, as the next two
    (r"\.down_blocks\.(\d)\.downsampler\.", r".downsamples.\1.downsamples.2."),
    (r"\.up_blocks\.(\d)\.upsampler\.", r".upsamples.\1.upsamples.3."),
    (r"\.down_blocks\.", ".downsamples."),
    (r"\.up_blocks\.(\d)\.resnets\.(\d)\.", lambda found: f".upsamples.{4 * int(found[1]) + int(found[2])}."),
    (r"\.up_blocks\.(\d)\.upsamplers\.0\.", lambda found: f".upsamples.{4 * int(found[1]) + 3}."),
    (r"\.conv_shortcut\.", ".shortcut."),
)
LAYERS = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6"}  # of a residual block


def original_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of diffusers' `AutoencoderKLWan`, of the form of 2.1 or 2.2 with two residual blocks a level, so named."""
    is_residual = any(".upsampler." in name for name in weights)
    return {_original(name, is_residual): weight for name, weight in weights.items()}


def _original(name: str, is_residual: bool) -> str:
    block = re.search(r"\.(?:resnets|down_blocks)\.\d\.?\d*\.(norm1|conv1|norm2|conv2)\.", name)
    if is_residual:
        name = re.sub(r"\.up_blocks\.(\d)\.resnets\.(\d)\.", r".upsamples.\1.upsamples.\2.", name)
    for pattern, new in RENAMED:
        name = re.sub(pattern, new, name)
    if block is not None:
        name = name.replace(f".{block[1]}.", f".{LAYERS[block[1]]}.")
    return name
