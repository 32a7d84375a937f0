"""`UNet3DConditionModel`: ModelScope, ZeroScope, VideoCrafter2 conversions, and the bundled model."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import UNet3DConditionModel
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import nn

from ..folder import UNetShape
from ..layers.attention import Biases, FrameTransformer
from ..layers.conv import CONVS, FrameConvs
from ..layers.frames import Hearing, OverFrames
from ..layers.patch import Change, Swap
from ..layers.view import View
from . import weights

FPS = "fps_embedding."
Module_T = TypeVar("Module_T", bound=nn.Module)


def load(folder: Path, dtype: torch.dtype, *, fps_cond: bool) -> UNet3DConditionModel:
    """Load a UNet from safetensors; with `fps_cond` also the `fps_embedding` of VideoCrafter2, which diffusers leaves out.

    Raises what `weights.load` does.
    """
    loader = partial(UNet3DConditionModel.from_pretrained, torch_dtype=dtype, low_cpu_mem_usage=False)
    unet = weights.load(loader, folder, may_have=FPS if fps_cond else None)
    if fps_cond:
        channels = unet.config.block_out_channels[0]
        unet.fps_embedding = TimestepEmbedding(channels, 4 * channels)
        unet.fps_embedding.load_state_dict(weights.read_part(folder, FPS))
        unet.fps_embedding.to(dtype)
        unet.fps_embedding.requires_grad_(False)
    return unet


def frame_changes(unet: UNet3DConditionModel, view: View, biases: Biases) -> list[Change]:
    """Return what makes every layer that mixes frames exact over a cut time axis; raise ValueError on an unknown UNet."""
    changes: list[Change] = [Swap(owner, name, OverFrames(module)) for owner, name, module in _children(unet, ResnetBlock2D)]
    counts: Counter[str] = Counter()
    for owner, name, module in _children(unet, TemporalConvLayer):
        counts["convolution"] += len(CONVS)
        changes.append(Swap(owner, name, FrameConvs(module, view)))
    for owner, name, module in _children(unet, TransformerTemporalModel):
        frame_transformer = FrameTransformer(module, view, biases)
        counts["norm"] += 1
        counts["attention"] += len(frame_transformer.sites)
        changes.append(Swap(owner, name, frame_transformer))
    expected = UNetShape(**{name: unet.config[name] for name in UNetShape.model_fields}).frame_layers()
    if dict(counts) != expected:
        raise ValueError(f"this UNet has {dict(counts)} layers over frames, its configuration promises {expected}")
    return changes


def prompt_changes(unet: UNet3DConditionModel, embeddings_BFLD: torch.Tensor) -> list[Change]:
    """Return what lets each frame hear its own prompt."""
    spatial = _children(unet, Transformer2DModel)
    return [Swap(owner, name, Hearing(module, embeddings_BFLD)) for owner, name, module in spatial]


def fps_changes(unet: UNet3DConditionModel, fps: float) -> list[Change]:
    """Return what adds the embedded frame rate to the time embedding, for a UNet that was trained with one."""
    embedding = getattr(unet, "fps_embedding", None)
    return [] if embedding is None else [Swap(unet, "time_embedding", FpsTimeEmbedding(unet, embedding, fps))]


def _children(unet: nn.Module, kind: type[Module_T]) -> list[tuple[nn.Module, str, Module_T]]:
    """Return all modules of a kind, each with its owner and its name there."""
    named = ((owner, name, module) for owner in unet.modules() for name, module in owner.named_children())
    return [(owner, name, module) for owner, name, module in named if isinstance(module, kind)]


class FpsTimeEmbedding(nn.Module):
    """Stands in for a UNet's time embedding: that plus the embedded sinusoid of the frame rate (VideoCrafter2)."""

    def __init__(self, unet: UNet3DConditionModel, fps_embedding: TimestepEmbedding, fps: float):
        super().__init__()
        self.time_embedding = unet.time_embedding
        sinusoid = unet.time_proj(torch.tensor([fps], device=unet.device)).to(unet.dtype)
        self.added = fps_embedding(sinusoid)

    def forward(self, sample: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        return self.time_embedding(sample, condition) + self.added
