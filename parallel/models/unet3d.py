"""`UNet3DConditionModel`: ModelScope, ZeroScope, VideoCrafter2 conversions, and the bundled model."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.upsampling import Upsample2D
from einops import rearrange
from torch import nn
from transformers import AutoTokenizer, CLIPTextModel, CLIPTokenizerFast, PreTrainedTokenizerBase

from ..families import unet_lora
from ..families.unet3d import UNet3D
from ..families.unet_shape import UNetShape
from ..job.files import Lora
from ..job.job import Job
from ..layers.activation import PinnedMemory
from ..layers.attention import Biases, FrameTransformer
from ..layers.call import Call
from ..layers.compiled import Compiler
from ..layers.conditioning import Conditioning, Images
from ..layers.conv import CONVS, FrameConvs
from ..layers.frames import OverFrames
from ..layers.patch import Change, Swap
from ..layers.reuse import Deep, DeepDown, DeepLast
from ..layers.view import View
from . import weights
from .lora import Adapters
from .model import Frames

FPS = "fps_embedding."
# Layers that never look across frames, and which of their arguments, beside the first, have a row a frame.
OVER_FRAMES: dict[type[nn.Module], tuple[str, ...]] = {
    ResnetBlock2D: ("temb",),
    Transformer2DModel: ("encoder_hidden_states",),
    Downsample2D: (),
    Upsample2D: (),
}


@dataclass(frozen=True)
class UNet3DModel:
    """The rank half of the family: its parts, and how the sampler uses them (model.py)."""

    folder: UNet3D
    dtype: torch.dtype
    unet: UNet3DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: PreTrainedTokenizerBase
    adapters: Adapters = field(default_factory=Adapters)

    decode_reach = encode_reach = 0  # a VAE for pictures
    image_encoder = None

    @classmethod
    def load(cls, folder: UNet3D, dtype: torch.dtype, *, with_text: bool, looks: bool) -> "UNet3DModel":
        """Load all parts into host memory; raise what table.load does."""
        assert with_text, "ranks do not share it"
        from . import trial

        trial.check_unet3d()
        return cls(
            folder=folder,
            dtype=dtype,
            unet=load(folder.unet, dtype, fps_cond=folder.fps_cond),
            vae=weights.load(AutoencoderKL, folder.vae, dtype, may_have=""),
            text_encoder=weights.load(CLIPTextModel, folder.text_encoder, dtype, may_have=""),
            tokenizer=_tokenizer(folder.tokenizer),
        )

    @property
    def nets(self) -> tuple[UNet3DConditionModel]:
        return (self.unet,)

    def blocks(self, net: UNet3DConditionModel) -> list[nn.Module]:
        return [*net.down_blocks, net.mid_block, *net.up_blocks]

    @property
    def text_length(self) -> int:
        return min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)

    @property
    def text_width(self) -> int:
        return self.text_encoder.config.hidden_size

    def embed(self, tokens_SL: torch.Tensor, mask_SL: torch.Tensor) -> torch.Tensor:
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        return self.text_encoder(tokens_SL, attention_mask=mask_SL if masked else None)[0]

    def adapt(self, loras: Sequence[Lora], *, device: torch.device, notify: Callable[[str], None]) -> None:
        if not loras:
            return self.adapters.take_out()
        read = partial(unet_lora.read, unet=self.folder.unet)
        targets = unet_lora.targets(self.folder.unet)
        self.adapters.put(self.nets, loras, read=read, targets=targets, device=device, notify=notify)

    def changes(
        self, net: UNet3DConditionModel, job: Job, view: View, *, offload_skips: bool, compiler: Compiler | None
    ) -> list[Change]:
        biases = Biases(view, job.scope.trained_frames)
        found = frame_changes(net, view, biases, offload_skips=offload_skips, compiler=compiler) + fps_changes(net, job.fps)
        return found + (reuse_changes(net, view.call) if job.tuning.reuse_every > 1 else [])

    def guess(
        self,
        net: UNet3DConditionModel,
        x_BCFHW: torch.Tensor,
        timestep: torch.Tensor,
        conditioning: Conditioning,
        images: Images | None = None,
    ) -> torch.Tensor:
        assert images is None, "the net knows of none"
        return net(x_BCFHW, timestep, encoder_hidden_states=conditioning, return_dict=False)[0]

    def decode(self, latents_BCFHW: torch.Tensor, first: int, wanted: Sequence[range]) -> Iterator[tuple[range, torch.Tensor]]:
        at_once = self.folder.decoded_at_once
        for run in wanted:
            for start in range(run.start, run.stop, at_once):
                some = range(start, min(start + at_once, run.stop))
                own = latents_BCFHW[0, :, some.start - first : some.stop - first]
                part_FCHW = rearrange(own, "c f h w -> f c h w") / self.folder.scaling_factor
                with torch.inference_mode():
                    pictures = self.vae.decode(part_FCHW.to(self.vae.device, self.dtype)).sample
                yield some, pictures

    def encode(self, frames: Frames, wanted: range) -> Iterator[torch.Tensor]:
        for number in wanted:
            (frame_HWC,) = frames(range(number, number + 1))
            picture = frame_HWC if frame_HWC.is_floating_point() else frame_HWC.float() / 255
            image = (rearrange(picture, "h w c -> 1 c h w") * 2 - 1).to(self.vae.device, self.dtype)
            with torch.inference_mode():
                latent = self.vae.encode(image).latent_dist.mode().float() * self.folder.scaling_factor
            yield latent[:, :, None]

    def look(self, pictures_FHWC: torch.Tensor) -> torch.Tensor:
        raise AssertionError("its net takes no tokens of pictures")


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer of the class that its configuration names or, if it names none, CLIP's."""
    named = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("tokenizer_class")
    kind = AutoTokenizer if named else CLIPTokenizerFast
    return kind.from_pretrained(folder, local_files_only=True)


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
