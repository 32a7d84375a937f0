"""The names of a Wan VAE's weights: its makers', which ComfyUI's files have, as diffusers' `AutoencoderKLWan` has them.

2.1's levels are one row of layers; those of 2.2, residual as a whole, are nested. diffusers nests a decoder's levels in both.
"""

import re
from collections.abc import Iterable

ENDS = {"conv1.": "quant_conv.", "conv2.": "post_quant_conv."}
OUTSIDE = {
    "conv1.": "conv_in.", "head.0.": "norm_out.", "head.2.": "conv_out.", "middle.0.": "mid_block.resnets.0.",
    "middle.1.": "mid_block.attentions.0.", "middle.2.": "mid_block.resnets.1.",
}  # fmt: skip
RESIDUAL = {
    "residual.0.": "norm1.",
    "residual.2.": "conv1.",
    "residual.3.": "norm2.",
    "residual.6.": "conv2.",
    "shortcut.": "conv_shortcut.",
}
NESTED = re.compile(r"(?:down|up)samples\.(\d+)\.(?:down|up)samples\.(\d+)\.(.+)")
FLAT = re.compile(r"(?:down|up)samples\.(\d+)\.(.+)")
RESAMPLES = ("resample.", "time_conv.")
FIRST_UP = re.compile(r"decoder\.upsamples\.(\d+)\.resample\.")
MARK = "decoder.middle.0.residual.0.gamma"  # of the makers' names
DIFFUSERS_MARK = "decoder.mid_block.resnets.0.norm1.gamma"


def to_diffusers(names: Iterable[str]) -> dict[str, str]:
    """Return diffusers' names of a VAE's weights by its makers'; names that are none of theirs stay as they are."""
    names = list(names)
    if MARK not in names:
        return {name: name for name in names}
    up = [int(found[1]) for found in map(FIRST_UP.match, names) if found is not None]
    level = min(up, default=0) + 1  # layers of a decoder's level in a row: residual blocks, and what doubles
    return {name: _renamed(name, level) for name in names}


def _renamed(name: str, level: int) -> str:
    for old, new in ENDS.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    side, _, rest = name.partition(".")
    if side not in ("encoder", "decoder"):
        return name
    return f"{side}.{_layer(_outside(rest), side, level)}"


def _outside(rest: str) -> str:
    for old, new in OUTSIDE.items():
        if rest.startswith(old):
            return new + _inside(rest.removeprefix(old))
    return rest


def _inside(rest: str) -> str:
    for old, new in RESIDUAL.items():
        if rest.startswith(old):
            return new + rest.removeprefix(old)
    return rest


def _layer(rest: str, side: str, level: int) -> str:
    """Return the name of a level's layer in an encoder or decoder."""
    blocks, ending = ("down_blocks", "downsampler") if side == "encoder" else ("up_blocks", "upsampler")
    nested, flat = NESTED.fullmatch(rest), FLAT.fullmatch(rest)
    if nested is not None:
        inner = nested[3]
        place = ending if inner.startswith(RESAMPLES) else f"resnets.{nested[2]}"
        return f"{blocks}.{nested[1]}.{place}.{_inside(inner)}"
    if flat is None:
        return rest
    number, inner = int(flat[1]), flat[2]
    if side == "encoder":
        return f"{blocks}.{number}.{_inside(inner)}"
    place = "upsamplers.0" if inner.startswith(RESAMPLES) else f"resnets.{number % level}"
    return f"{blocks}.{number // level}.{place}.{_inside(inner)}"
