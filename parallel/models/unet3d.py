"""`UNet3DConditionModel`: ModelScope, ZeroScope, VideoCrafter2 conversions, and the bundled model."""

from collections import Counter
from functools import partial
from pathlib import Path

import torch
from diffusers import UNet3DConditionModel
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import nn

from ..folder import UNetShape
from ..layers.attention import Biases, DualScopeProcessor
from ..layers.conv import NormConv
from ..layers.norm import FrameGroupNorm
from ..layers.patch import Change, Swap
from ..layers.prompts import Hear
from ..layers.view import View
from . import weights

FPS = "fps_embedding."
CONVS = ("conv1", "conv2", "conv3", "conv4")  # of a TemporalConvLayer


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
    changes: list[Change] = []
    counts: Counter[str] = Counter()
    for module in unet.modules():
        if isinstance(module, TemporalConvLayer):
            counts["convolution"] += len(CONVS)
            changes += [Swap(module, name, NormConv(getattr(module, name), view)) for name in CONVS]
        elif isinstance(module, TransformerTemporalModel):
            counts["norm"] += 1
            changes.append(Swap(module, "norm", FrameGroupNorm(module.norm, view)))
            for block in module.transformer_blocks:
                counts["attention"] += 2
                changes += [Swap(attn, "processor", DualScopeProcessor(view, biases)) for attn in (block.attn1, block.attn2)]
    expected = UNetShape(**{name: unet.config[name] for name in UNetShape.model_fields}).frame_layers()
    if dict(counts) != expected:
        raise ValueError(f"this UNet has {dict(counts)} layers over frames, its configuration promises {expected}")
    return changes


def prompt_changes(unet: UNet3DConditionModel, embeddings_BFLD: torch.Tensor) -> list[Change]:
    """Return what lets each frame hear its own prompt."""
    return [Hear(module, embeddings_BFLD) for module in unet.modules() if isinstance(module, Transformer2DModel)]


def fps_changes(unet: UNet3DConditionModel, fps: float) -> list[Change]:
    """Return what adds the embedded frame rate to the time embedding, for a UNet that was trained with one."""
    embedding = getattr(unet, "fps_embedding", None)
    return [] if embedding is None else [Swap(unet, "time_embedding", FpsTimeEmbedding(unet, embedding, fps))]


class FpsTimeEmbedding(nn.Module):
    """Stands in for a UNet's time embedding: that plus the embedded sinusoid of the frame rate (VideoCrafter2)."""

    def __init__(self, unet: UNet3DConditionModel, fps_embedding: TimestepEmbedding, fps: float):
        super().__init__()
        self.time_embedding = unet.time_embedding
        sinusoid = unet.time_proj(torch.tensor([fps], device=unet.device)).to(unet.dtype)
        self.added = fps_embedding(sinusoid)

    def forward(self, sample: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        return self.time_embedding(sample, condition) + self.added
