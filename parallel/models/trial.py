"""A trial of the installed diffusers: the layers that stand in for its own take its classes apart, and it may change them.

A tiny UNet is called as it is and with the layers exchanged; both must give the same. This finds a part that is gone or has
another name, a call that is made differently, and another formula behind the same names.
"""

import diffusers
import torch
from diffusers import UNet3DConditionModel
from packaging.version import Version

from ..comm.group import Group
from ..job.errors import JobRefused
from ..layers.attention import Biases
from ..layers.patch import patched
from ..layers.view import View
from ..maths.scope import Span
from . import unet3d

TESTED = "0.43"  # the tests pass with what is older, from the oldest in requirements.txt on
FRAMES, CLOSE = 3, 1e-3
TINY = {
    "sample_size": 4,
    "in_channels": 2,
    "out_channels": 2,
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "block_out_channels": (4, 8),
    "layers_per_block": 1,
    "cross_attention_dim": 4,
    "attention_head_dim": 2,
    "norm_num_groups": 2,
}


def check_diffusers() -> None:
    """Raise JobRefused, with what to install, if the layers do not fit a diffusers newer than those that were tested."""
    installed = Version(diffusers.__version__).base_version  # of a development version the one that it is to become
    if Version(installed) < Version(TESTED):
        return
    try:
        apart = difference()
        said = f"its layers and this pack's differ by {apart:.1g}" if not apart < CLOSE else None
    except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
    if said is not None:
        raise JobRefused(
            f"diffusers {diffusers.__version__} has another UNet3DConditionModel than this pack knows ({said}): install "
            f"diffusers<{TESTED}"
        )


def difference() -> float:
    """Return how far apart what the layers make of a video and what diffusers' own make of it are."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):  # its constructor draws weights
        unet = UNet3DConditionModel(**TINY).eval().requires_grad_(False)
    for parameter in unet.parameters():  # some of them begin at zero, and would hide their layer
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(1, 2, FRAMES, 4, 4, generator=generator)
    text = torch.randn(1, 2, 4, generator=generator)
    view = View(Group(0, 1, torch.device("cpu")), Span(FRAMES, FRAMES, 0))
    with torch.inference_mode():
        expected = unet(x, 1, encoder_hidden_states=text, return_dict=False)[0]
        with patched(unet3d.frame_changes(unet, view, Biases(view))):
            made = unet(x, 1, encoder_hidden_states=text, return_dict=False)[0]
    return float((made - expected).abs().max() / expected.abs().max())
