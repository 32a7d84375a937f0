"""The rank half of `WanTransformer3DModel`: Wan 2.1 and 2.2 from text or images, with one net or two, and the bundled small one.

All that mixes latents is the self-attention of each block; all that a prompt reaches is the cross-attention. Both have processors
of ours; the feed-forward works in slices; the table of rotary positions, which ends at 1,024 latents, is not used.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from inspect import signature

import diffusers
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from einops import rearrange
from torch import nn
from transformers import AutoTokenizer, CLIPVisionModel, PreTrainedTokenizerBase, UMT5EncoderModel

from ..families import wan_lora
from ..families.parts import Part
from ..families.single_file import SingleFile
from ..families.wan import Wan
from ..families.wan_shape import TEXT_LENGTH
from ..job.errors import JobRefused
from ..job.files import Lora
from ..job.job import Job
from ..layers import travel
from ..layers.compiled import Compiler
from ..layers.conditioning import Conditioning, Images
from ..layers.cross_attention import Heard, TextAttention, stack
from ..layers.dual_scope import DualScopeAttention, Grid, Plans
from ..layers.patch import Change, Swap
from ..layers.tokens import OverTokens
from ..layers.view import View
from ..maths import clips
from . import sentence_pieces, wan_vae, weights
from .lora import Adapters
from .model import Frames
from .pictures import prepare
from .sentence_pieces import SentencePieces


@dataclass(frozen=True)
class WanModel:
    """The rank half of the family: its parts, and how the sampler uses them (model.py)."""

    folder: Wan
    dtype: torch.dtype
    transformer: WanTransformer3DModel
    transformer_2: WanTransformer3DModel | None
    vae: AutoencoderKLWan
    text_encoder: UMT5EncoderModel | None
    tokenizer: PreTrainedTokenizerBase | SentencePieces | None
    image_encoder: CLIPVisionModel | None = None
    adapters: Adapters = field(default_factory=Adapters)

    @classmethod
    def load(cls, folder: Wan, dtype: torch.dtype, *, with_text: bool, looks: bool) -> "WanModel":
        """Load all parts into host memory, what `looks` at pictures with them; raise what table.load does."""
        from . import trial

        trial.check_wan()
        if folder.vae_sizes.patch_size is not None and "patch_size" not in signature(AutoencoderKLWan.__init__).parameters:
            raise JobRefused(
                f"the VAE of Wan 2.2 5B needs diffusers 0.35 or newer, this is {diffusers.__version__}: install diffusers>=0.35"
            )
        second, image_encoder = folder.transformer_2, folder.image_encoder if looks else None
        reads = folder.text_encoder if with_text else None
        return cls(
            folder=folder,
            dtype=dtype,
            transformer=_load_net(folder.transformer, dtype),
            transformer_2=None if second is None else _load_net(second, dtype),
            vae=weights.load(AutoencoderKLWan, folder.vae, dtype, may_have=""),
            text_encoder=None if reads is None else weights.load(UMT5EncoderModel, reads, dtype, may_have=""),
            tokenizer=None if folder.tokenizer is None else _tokenizer(folder.tokenizer),
            image_encoder=None if image_encoder is None else weights.load(CLIPVisionModel, image_encoder, dtype, may_have=""),
        )

    @property
    def nets(self) -> tuple[WanTransformer3DModel, ...]:
        return (self.transformer,) if self.transformer_2 is None else (self.transformer, self.transformer_2)

    def blocks(self, net: WanTransformer3DModel) -> Sequence[nn.Module]:
        return list(net.blocks)

    @property
    def text_length(self) -> int:
        return TEXT_LENGTH if self.tokenizer is None else min(TEXT_LENGTH, self.tokenizer.model_max_length)

    @property
    def text_width(self) -> int:
        return self.folder.shape.text_dim

    @property
    def decode_reach(self) -> int:
        return wan_vae.decode_reach(self.vae)

    @property
    def encode_reach(self) -> int:
        return wan_vae.encode_reach(self.vae)

    def embed(self, tokens_SL: torch.Tensor, mask_SL: torch.Tensor) -> torch.Tensor:
        assert self.text_encoder is not None, "another rank has it"
        embeddings_SLD = self.text_encoder(tokens_SL, attention_mask=mask_SL).last_hidden_state
        return embeddings_SLD * mask_SL[..., None].to(embeddings_SLD)  # what pads a prompt is zero, and attended to

    def adapt(self, loras: Sequence[Lora], *, device: torch.device, notify: Callable[[str], None]) -> None:
        if not loras:
            return self.adapters.take_out()
        shape = self.folder.shape
        read = partial(wan_lora.read, shape=shape)
        self.adapters.put(self.nets, loras, read=read, targets=wan_lora.targets(shape), device=device, notify=notify)

    def changes(
        self, net: WanTransformer3DModel, job: Job, view: View, *, offload_skips: bool, compiler: Compiler | None
    ) -> list[Change]:
        if len(net.blocks) != self.folder.shape.num_layers:
            raise ValueError(
                f"this net has {len(net.blocks)} blocks, its configuration promises {self.folder.shape.num_layers}"
            )
        patch = self.folder.shape.patch_size
        size = (job.height // self.folder.scale // patch[1], job.width // self.folder.scale // patch[2])
        grid = Grid(size, self.folder.shape.attention_head_dim)
        plans = Plans(view, job.scope.places, job.scope.rotate)
        to_keys = net.blocks[0].attn1.to_k
        what = travel.choose(job.tuning.travel, to_keys, view, tokens=size[0] * size[1], branches=job.branches)
        heard: dict[int, Heard] = {}
        found: list[Change] = [] if compiler is None else [compiler]
        for block in net.blocks:
            dual = DualScopeAttention(view, plans, grid, travel=what, trained_keys=self._trained_keys(job))
            feed_forward = block.ffn if compiler is None else compiler(block.ffn)
            found.append(Swap(block.attn1, "processor", dual))
            found.append(Swap(block.attn2, "processor", TextAttention(view, heard, tokens=size[0] * size[1])))
            found.append(Swap(block, "ffn", OverTokens(feed_forward, view.slices, width=self.folder.shape.ffn_dim)))
        return found

    def _trained_keys(self, job: Job) -> int | None:
        frames = job.scope.trained_frames
        return None if frames is None else self.folder.geometry.latents(frames)

    def guess(
        self,
        net: WanTransformer3DModel,
        x_BCFHW: torch.Tensor,
        timestep: torch.Tensor,
        conditioning: Conditioning,
        images: Images | None = None,
    ) -> torch.Tensor:
        texts_SLD, runs = stack(conditioning)
        pictures = None
        if images is not None:
            channels = images.channels_BCFHW.to(x_BCFHW).expand(len(x_BCFHW), -1, -1, -1, -1)
            x_BCFHW = torch.cat([x_BCFHW, channels], dim=1)
            if images.tokens_FLD is not None:
                pictures = net.condition_embedder.image_embedder(images.tokens_FLD)
        net.blocks[0].attn2.processor.begin(Heard(runs, pictures))  # for all blocks
        if timestep.ndim == 0:
            return net(x_BCFHW, timestep.expand(len(x_BCFHW)), texts_SLD, return_dict=False)[0]
        # Latents become the batch, so that a time, and what the net makes of it, is one a latent: stock makes it one a token.
        frames = rearrange(x_BCFHW, "b c f h w -> (b f) c 1 h w")
        made = net(frames, timestep.repeat(len(x_BCFHW)), texts_SLD, return_dict=False)[0]
        return rearrange(made, "(b f) c 1 h w -> b c f h w", b=len(x_BCFHW))

    def decode(self, latents_BCFHW: torch.Tensor, first: int, wanted: Sequence[range]) -> Iterator[tuple[range, torch.Tensor]]:
        for run in wanted:
            begin = clips.before(run, self.decode_reach, first=first).start
            part = latents_BCFHW[:, :, begin - first : run.stop - first]
            latents = self.folder.latent_format.to_raw(part, dim=1).to(self.vae.device, self.dtype)
            frames = wan_vae.decode(self.vae, latents, halo=run.start - begin, from_start=begin == 0)
            for number, pictures in zip(run, frames, strict=True):
                yield self.folder.geometry.frames_of(range(number, number + 1)), rearrange(pictures, "1 c f h w -> f c h w")

    def encode(self, frames: Frames, wanted: range) -> Iterator[torch.Tensor]:
        first = clips.before(wanted, self.encode_reach).start
        numbers = (self.folder.geometry.frames_of(range(latent, latent + 1)) for latent in range(first, wanted.stop))
        parts = (self._prepare(frames(each)) for each in numbers)
        for raw in wan_vae.encode_parts(self.vae, parts, halo=wanted.start - first, from_start=first == 0):
            yield self.folder.latent_format.from_raw(raw, dim=1)

    def _prepare(self, frames_FHWC: torch.Tensor) -> torch.Tensor:
        """Return frames, uint8 or float from 0 to 1, as the VAE takes them."""
        shares = frames_FHWC if frames_FHWC.is_floating_point() else frames_FHWC.float() / 255
        return rearrange(shares * 2 - 1, "f h w c -> 1 c f h w").to(self.vae.device, self.dtype)

    def look(self, pictures_FHWC: torch.Tensor) -> torch.Tensor:
        how = None if self.folder.looking is None else self.folder.looking.preprocessor
        assert self.image_encoder is not None and how is not None, "another rank has it, or none"
        pixels_FCHW = prepare(pictures_FHWC, how).to(self.image_encoder.device, self.dtype)
        with torch.inference_mode():
            return self.image_encoder(pixels_FCHW, output_hidden_states=True).hidden_states[-2]


def _tokenizer(part: Part) -> PreTrainedTokenizerBase | SentencePieces:
    if isinstance(part, SingleFile):
        return sentence_pieces.read(part.file, length=TEXT_LENGTH)
    return AutoTokenizer.from_pretrained(part, local_files_only=True)


def _load_net(folder: Part, dtype: torch.dtype) -> WanTransformer3DModel:
    """Load a net without its table of rotary positions: self-attentions get another processor for every job."""
    net = weights.load_by_name(WanTransformer3DModel, folder, dtype)
    net.rope = NoRotation()
    return net


class NoRotation(nn.Module):
    """Stands in for a net's table of rotary positions, which ends at 1,024 latents; the self-attentions have their own."""

    def forward(self, hidden_states: torch.Tensor) -> None:
        return None
