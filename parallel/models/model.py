"""What a family is on a rank: all that the sampler asks of it. A class a family, in a file of its own; table.py lists them.

Its other half, what a family is to the host, is the inspected folder (families/), which a model has as `folder`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..families.table import ModelFolder
from ..job.files import Lora
from ..job.job import Job
from ..layers.compiled import Compiler
from ..layers.conditioning import Conditioning, Images
from ..layers.patch import Change
from ..layers.view import View
from .sentence_pieces import SentencePieces

Frames = Callable[[range], torch.Tensor]  # frames of a video by their numbers: (F, H, W, 3), uint8 or float from 0 to 1


class Model(Protocol):
    """What a rank keeps warm between jobs. Latents are as the net sees them, (1, C, F, h, w); pictures are in [-1, 1]."""

    @property
    def folder(self) -> ModelFolder: ...

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | SentencePieces | None:
        """None where prompts come encoded with each job."""

    @property
    def text_encoder(self) -> PreTrainedModel | None:
        """None where the first rank alone has it, since it is large."""

    @property
    def image_encoder(self) -> PreTrainedModel | None:
        """What looks at pictures; None where the model has none, or the first rank alone has it."""

    @property
    def vae(self) -> nn.Module: ...

    @property
    def nets(self) -> tuple[nn.Module, ...]:
        """What denoises: one net or, in the order of their work, several."""

    def blocks(self, net: nn.Module) -> Sequence[nn.Module]:
        """Return the blocks of a net in the order in which they are called: nearly all of its weights."""

    @property
    def text_length(self) -> int:
        """How many tokens a prompt has, those that begin, end and pad it included."""

    @property
    def text_width(self) -> int:
        """Numbers of a token's embedding."""

    @property
    def decode_reach(self) -> int:
        """How many latents before its own the frames of a latent depend on."""

    @property
    def encode_reach(self) -> int:
        """How many latents before its own frames have a part in a latent."""

    def embed(self, tokens_SL: torch.Tensor, mask_SL: torch.Tensor) -> torch.Tensor:
        """Return the embeddings of prompts, (S, L, D), by their tokens; the mask is 0 where these only pad."""

    def adapt(self, loras: Sequence[Lora], *, device: torch.device, notify: Callable[[str], None]) -> None:
        """Have these LoRAs in the nets, and no others; `device` computes, `notify` gets what of them fits nothing."""

    def changes(self, net: nn.Module, job: Job, view: View, *, offload_skips: bool, compiler: Compiler | None) -> list[Change]:
        """Return what makes a net work on a clip, exact where it mixes frames; raise ValueError on a net of another shape."""

    def guess(
        self,
        net: nn.Module,
        x_BCFHW: torch.Tensor,
        timestep: torch.Tensor,
        conditioning: Conditioning,
        images: Images | None = None,
    ) -> torch.Tensor:
        """Return what a net, changed, makes of latents at a timestep: (B, C, F, h, w), a row a branch of the conditioning.

        A timestep is a number or, of a net that has a time of each latent, one a latent, (F,).
        """

    def decode(self, latents_BCFHW: torch.Tensor, first: int, wanted: Sequence[range]) -> Iterator[tuple[range, torch.Tensor]]:
        """Yield (frames of the video, their pictures (F, 3, H, W)) of some runs of latents, ascending, a few frames at a time.

        The latents are those of the video from number `first` on: those that are wanted, and what their decode depends on.
        """

    def encode(self, frames: Frames, wanted: range) -> Iterator[torch.Tensor]:
        """Yield consecutive latents, (1, C, F, h, w) each, that make up those wanted: the mode of the VAE's posterior.

        Frames are asked for when it is their turn: those wanted, and before them what these depend on (`encode_reach`).
        """

    def look(self, pictures_FHWC: torch.Tensor) -> torch.Tensor:
        """Return the tokens of pictures, uint8 or float from 0 to 1, as a net takes them beside a prompt's: (F, L, D)."""
