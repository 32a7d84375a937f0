"""`UNet3DConditionModel`: ModelScope, ZeroScope, VideoCrafter2 conversions, and the bundled model."""

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet3DConditionModel
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.upsampling import Upsample2D
from torch import nn

from ..families.unet_shape import UNetShape
from ..layers.activation import PinnedMemory
from ..layers.attention import Biases, FrameTransformer
from ..layers.call import Call
from ..layers.compiled import Compiler
from ..layers.conv import CONVS, FrameConvs
from ..layers.frames import OverFrames
from ..layers.patch import Change, Swap
from ..layers.reuse import Deep, DeepDown, DeepLast
from ..layers.view import View
from . import weights

FPS = "fps_embedding."
# Layers that never look across frames, and which of their arguments, beside the first, have a row a frame.
OVER_FRAMES: dict[type[nn.Module], tuple[str, ...]] = {
    ResnetBlock2D: ("temb",),
    Transformer2DModel: ("encoder_hidden_states",),
    Downsample2D: (),
    Upsample2D: (),
}


def load(folder: Path, dtype: torch.dtype, *, fps_cond: bool) -> UNet3DConditionModel:
    """Load a UNet from safetensors; with `fps_cond` also the `fps_embedding` of VideoCrafter2, which diffusers leaves out.

    Raises what `weights.load` does.
    """
    keys = FPS if fps_cond else None
    unet = weights.load(UNet3DConditionModel, folder, dtype, may_have=keys)
    if fps_cond:
        channels = unet.config.block_out_channels[0]
        unet.fps_embedding = TimestepEmbedding(channels, 4 * channels)
        unet.fps_embedding.load_state_dict(weights.read_part(folder, FPS))
        unet.fps_embedding.to(dtype)
        unet.fps_embedding.requires_grad_(False)
    return unet


def frame_changes(
    unet: UNet3DConditionModel, view: View, biases: Biases, *, offload_skips: bool = False, compiler: Compiler | None = None
) -> list[Change]:
    """Return what makes every layer work on a clip, in slices: exact over a cut time axis where it mixes frames.

    With `offload_skips` skip tensors wait in host memory; with a compiler spatial layers are compiled. Raises ValueError on an unknown
    UNet.
    """
    skips = _skips(unet)

    def readers(module: nn.Module) -> dict[str, Any]:
        return {"reads": 2, "offload": offload_skips} if module in skips else {"reads": 1}

    changes: list[Change] = [PinnedMemory(view.group.device)] if offload_skips else []
    changes += [] if compiler is None else [compiler]
    for kind, rows in OVER_FRAMES.items():
        for owner, name, module in _children(unet, (kind,)):
            heads = getattr(module, "num_attention_heads", 1)
            over_frames = OverFrames(module, view.slices, rows=rows, heads=heads, compiler=compiler, **readers(module))
            changes.append(Swap(owner, name, over_frames))
    counts: Counter[str] = Counter()
    for owner, name, module in _children(unet, (TemporalConvLayer,)):
        counts["convolution"] += len(CONVS)
        changes.append(Swap(owner, name, FrameConvs(module, view, **readers(module))))
    for owner, name, module in _children(unet, (TransformerTemporalModel,)):
        frame_transformer = FrameTransformer(module, view, biases, **readers(module))
        counts["norm"] += 1
        counts["attention"] += len(frame_transformer.sites)
        changes.append(Swap(owner, name, frame_transformer))
    expected = UNetShape(**{name: unet.config[name] for name in UNetShape.model_fields}).frame_layers()
    if dict(counts) != expected:
        raise ValueError(f"this UNet has {dict(counts)} layers over frames, its configuration promises {expected}")
    return changes + _ends(unet, view)


def _skips(unet: UNet3DConditionModel) -> set[nn.Module]:
    """Return the modules whose outputs are skip tensors: read by the next layer, and again on the way up."""
    found = {unet.transformer_in}
    for block in unet.down_blocks:
        found.update(getattr(block, "temp_attentions", block.temp_convs))
        found.update(block.downsamplers or ())
    return found


def _ends(unet: UNet3DConditionModel, view: View) -> list[Change]:
    """Return what turns the UNet's input into an activation, and the last one into its output."""
    last = [unet.conv_out] if unet.conv_norm_out is None else [unet.conv_norm_out, unet.conv_act, unet.conv_out]
    return [
        Swap(unet, "conv_in", OverFrames(unet.conv_in, view.slices)),
        Swap(unet, "conv_norm_out", None),
        Swap(unet, "conv_out", OverFrames(nn.Sequential(*last), view.slices, reads=0)),
    ]


def reuse_changes(unet: UNet3DConditionModel, call: Call) -> list[Change]:
    """Return what lets a step run the outermost blocks only; nothing on a UNet that has no others."""
    down, up = list(unet.down_blocks), list(unet.up_blocks)
    if len(up) < 2:
        return []
    skips = [len(block.resnets) + len(block.downsamplers or ()) for block in down]
    deep = [
        Swap(unet.down_blocks, str(place), DeepDown(block, call, skips[place])) for place, block in enumerate(down) if place
    ]
    deep += [Swap(unet.up_blocks, str(place), Deep(block, call)) for place, block in enumerate(up[:-2])]
    last = len(up) - 2
    return [
        *deep,
        Swap(unet, "mid_block", Deep(unet.mid_block, call)),
        Swap(unet.up_blocks, str(last), DeepLast(up[last], call)),
    ]


def fps_changes(unet: UNet3DConditionModel, fps: float) -> list[Change]:
    """Return what adds the embedded frame rate to the time embedding, for a UNet that was trained with one."""
    embedding = getattr(unet, "fps_embedding", None)
    return [] if embedding is None else [Swap(unet, "time_embedding", FpsTimeEmbedding(unet, embedding, fps))]


def _children(unet: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[tuple[nn.Module, str, Any]]:
    """Return all modules of some kinds, each with its owner and its name there."""
    named = ((owner, name, module) for owner in unet.modules() for name, module in owner.named_children())
    return [(owner, name, module) for owner, name, module in named if isinstance(module, kinds)]


class FpsTimeEmbedding(nn.Module):
    """Stands in for a UNet's time embedding: that plus the embedded sinusoid of the frame rate (VideoCrafter2)."""

    def __init__(self, unet: UNet3DConditionModel, fps_embedding: TimestepEmbedding, fps: float):
        super().__init__()
        self.time_embedding = unet.time_embedding
        sinusoid = unet.time_proj(torch.tensor([fps], device=unet.device)).to(unet.dtype)
        self.added = fps_embedding(sinusoid)

    def forward(self, sample: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        return self.time_embedding(sample, condition) + self.added
