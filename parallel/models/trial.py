"""A trial of the installed diffusers: the layers that stand in for its own take its classes apart, and it may change them.

A tiny net is called as it is and with the layers exchanged, and a tiny VAE that sees what came before decodes a clip; both must
give the same as diffusers alone. This finds a part that is gone or has another name, a call that is made differently, and another
formula behind the same names.
"""

from collections.abc import Callable, Mapping
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKLWan, UNet3DConditionModel, WanTransformer3DModel
from packaging.version import Version

from ..comm.group import Group
from ..families.geometry import Geometry
from ..families.wan import Wan
from ..families.wan_shape import WanShape
from ..job.errors import JobRefused
from ..job.job import Job, Prompt
from ..layers.attention import Biases
from ..layers.conditioning import Conditioning
from ..layers.patch import Swap, patched
from ..layers.view import View
from ..maths import prompts
from ..maths.scope import Span
from . import unet3d, wan, wan_vae

TESTED = "0.43"  # the tests pass with what is older, from the oldest in requirements.txt on
FRAMES, CLOSE = 3, 1e-3
VIEW = View(Group(0, 1, torch.device("cpu")), Span(FRAMES, FRAMES, 0))
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


TINY_WAN = WanShape(
    num_attention_heads=1, attention_head_dim=6, in_channels=2, out_channels=2, text_dim=4, ffn_dim=8, num_layers=2
)
TINY_VAE = {"base_dim": 4, "z_dim": 2, "dim_mult": [1, 1], "num_res_blocks": 1, "temperal_downsample": [True]}
TINY_VAE |= {"latents_mean": [0.0, 0.0], "latents_std": [1.0, 1.0]}


def check_unet3d() -> None:
    """Raise JobRefused, with what to install, if the layers do not fit a diffusers newer than those that were tested."""
    _check("UNet3DConditionModel", difference)


def check_wan() -> None:
    """Raise as `check_unet3d` does, of Wan's net and VAE."""
    _check("WanTransformer3DModel or AutoencoderKLWan", wan_difference)


def _check(kind: str, difference: Callable[[], float]) -> None:
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
            f"diffusers {diffusers.__version__} has another {kind} than this pack knows ({said}): install diffusers<{TESTED}"
        )


def difference() -> float:
    """Return how far apart what the layers make of a video and what diffusers' own make of it are."""
    generator = torch.Generator().manual_seed(0)
    unet = _drawn(UNet3DConditionModel, TINY, generator)
    x = torch.randn(1, 2, FRAMES, 4, 4, generator=generator)
    text = torch.randn(1, 2, 4, generator=generator)
    with torch.inference_mode():
        expected = unet(x, 1, encoder_hidden_states=text, return_dict=False)[0]
        with patched(unet3d.frame_changes(unet, VIEW, Biases(VIEW))):
            made = unet(x, 1, encoder_hidden_states=text, return_dict=False)[0]
    return _apart(made, expected)


def wan_difference() -> float:
    """Return the same of Wan: of what its net makes of a video or, if that is more, of the frames of a clip that is decoded."""
    generator = torch.Generator().manual_seed(0)
    net = _drawn(WanTransformer3DModel, {**TINY_WAN.model_dump(exclude_none=True), "freq_dim": 4}, generator)
    vae = _drawn(AutoencoderKLWan, TINY_VAE, generator)
    # All that the layers ask of a folder.
    folder = Wan.model_construct(shape=TINY_WAN, geometry=Geometry(scale=1, frames_per_latent=4))  # type: ignore[call-arg]
    model = wan.WanModel(folder, torch.float32, net, None, vae, None, None)  # type: ignore[arg-type]
    job = Job(model="none", prompts=(Prompt(frame=0, text=""),), frames=FRAMES, height=8, width=8)
    heard = prompts.share(range(FRAMES), prompts.Timeline(FRAMES, (0,), 0, False))
    x, time = torch.randn(1, 2, FRAMES, 8, 8, generator=generator), torch.tensor(500)
    texts = torch.randn(2, 3, 4, generator=generator)
    latents = torch.randn(1, 2, wan_vae.decode_reach(vae) + 2, 2, 2, generator=generator)
    with torch.inference_mode():
        expected = net(x, time[None], texts[1:], return_dict=False)[0]
        changes = model.changes(net, job, VIEW, offload_skips=False, compiler=None)
        with patched([Swap(net, "rope", wan.NoRotation()), *changes]):
            made = model.guess(net, x, time, Conditioning(texts, heard, range(1, 2)))
        frames = vae.decode(latents).sample
        clip = torch.cat(list(wan_vae.decode(vae, latents[:, :, 1:], halo=latents.shape[2] - 2, from_start=False)), dim=2)
    return max(_apart(made, expected), _apart(clip, frames[:, :, -clip.shape[2] :]))


def _drawn(kind: Any, sizes: Mapping[str, Any], generator: torch.Generator) -> Any:
    """Return a model of a class with all weights drawn: some of them begin at zero, and would hide their layer."""
    with torch.random.fork_rng(devices=[]):  # its constructor draws weights
        made = kind(**sizes).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return made


def _apart(made: torch.Tensor, expected: torch.Tensor) -> float:
    return float((made - expected).abs().max() / expected.abs().max())
