"""A Wan transformer as numbers, from its configuration alone: exchanges, and what a call keeps alive. Its VAE: wan_vae_shape.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Annotated

from pydantic import Field

from ..job.job import Frozen
from ..maths import clips, rotary
from ..maths.scope import Span, everywhere, keys
from . import wan_names
from .frame_layer import FrameLayer
from .held_weight import HeldWeight

Size = Annotated[int, Field(ge=1)]
FLOAT32 = 4  # bytes
TEXT_LENGTH = 512  # tokens of a prompt, of all released models


class WanShape(Frozen):
    """The sizes of a `WanTransformer3DModel`, under diffusers' names and with its defaults."""

    patch_size: tuple[Size, Size, Size] = (1, 2, 2)
    num_attention_heads: int = Field(40, ge=1)
    attention_head_dim: int = Field(128, ge=6, le=1024)
    in_channels: int = Field(16, ge=1)
    out_channels: int = Field(16, ge=1)
    text_dim: int = 4096
    freq_dim: int = Field(256, ge=1)
    ffn_dim: int = Field(13824, ge=1)
    num_layers: int = Field(40, ge=1)
    image_dim: int | None = None
    added_kv_proj_dim: int | None = None
    pos_embed_seq_len: int | None = None
    # Of its table of rotary positions, which diffusers makes, times the width of a head, before any weight is looked at.
    rope_max_seq_len: int = Field(1024, ge=1, le=1 << 14)

    @property
    def width(self) -> int:
        """Numbers of a token."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def block_numbers(self) -> int:
        """Numbers of a block's weights: eight projections and two norms of queries and keys, a norm, a feed-forward, six shifts and scales.

        Nets that see tokens of pictures have two projections and a norm more.
        """
        width = self.width
        projections = 8 + (0 if self.added_kv_proj_dim is None else 2)
        vectors = 4 + 2 + 6 + (0 if self.added_kv_proj_dim is None else 1)
        feed_forward = (2 * width + 1) * self.ffn_dim + width
        return projections * (width * width + width) + vectors * width + feed_forward

    @property
    def condition_channels(self) -> int:
        """Channels that say which frames are given as images, and what these show; 0 of a net that takes none."""
        return self.in_channels - self.out_channels

    def tokens(self, height: int, width: int) -> int:
        """Return how many tokens a latent of a size has."""
        return (height // self.patch_size[1]) * (width // self.patch_size[2])


def exchanges(shape: WanShape, tokens: int, *, keys_values: bool) -> list[FrameLayer]:
    """Return the exchanges of one call on one branch: one a self-attention, of hidden states or of keys and values."""
    numbers, width = shape.width * tokens, shape.width
    layer = FrameLayer(
        "attention", numbers * (2 if keys_values else 1), False, 0 if keys_values else 4 * width * width * tokens
    )
    return [layer] * shape.num_layers


@dataclass(frozen=True)
class ClipCall:
    """A call of the net on one branch of a clip."""

    shape: WanShape
    tokens: int  # of a latent
    span: Span
    latents: int  # of the clip
    item: int  # bytes of a number
    travel: int  # tensors in which a latent comes from another rank: hidden states, or keys and values

    @property
    def seen(self) -> int:
        """How many latents one attends to."""
        return min(self.span.frames, 2 * self.span.local_context + 1 + len(everywhere(self.span)))

    @cached_property
    def arrivals(self) -> int:
        """How many latents come to the clip that gets most, of a video cut into clips like this one."""
        cut = clips.cut(self.span.frames, -(-self.span.frames // self.latents))
        return max(sum(key not in clip for key in keys(clip, self.span)) for clip in cut)

    @property
    def peak_bytes(self) -> int:
        """What lives at the fullest instant; what works in slices comes on top, but for the keys and values of one query."""
        # Where diffusers' block ends: its input, the hidden states, those normed, what cross-attention made, the feed-forward's
        # output; in float32 that times its gate and the sum, and copies of both terms where they are not float32 anyway.
        copies = 3 if self.item < FLOAT32 else 2
        block_end = self.latents * (5 * self.item + copies * FLOAT32)
        # What came and its keys and values, while the keys are joined: beside hidden states, those normed, queries, keys, values.
        joining = self.item * (6 * self.latents + (2 + self.travel) * self.arrivals)
        # Keys and values of all and of one query, and of global keys, before they are turned, the part that stands for time.
        head = self.shape.attention_head_dim
        unturned = len(everywhere(self.span)) * rotary.widths(head)[0] / head
        attending = self.item * (5 * self.latents + 2 * self.arrivals + 2 * self.seen + unturned)
        patch = self.shape.in_channels * prod(self.shape.patch_size)
        texts = TEXT_LENGTH * self.shape.width
        streams = max(block_end, joining, attending) * self.shape.width * self.tokens
        return round(streams) + self.item * (texts + self.latents * self.tokens * patch)

    @property
    def stream_bytes(self) -> int:
        """The hidden states of a clip."""
        return self.item * self.latents * self.shape.width * self.tokens

    @property
    def feeding_bytes(self) -> int:
        """What lives while a feed-forward works: its block's input, the hidden states, those normed, what cross-attention made, its output."""
        return 5 * self.stream_bytes + self.item * TEXT_LENGTH * self.shape.width

    def peak_with(self, held: Mapping[str, HeldWeight]) -> int:
        """Return what lives at the fullest instant of a net of which some weights are held, by name, and become numbers meanwhile.

        A feed-forward keeps the numbers of two layers while it goes over slices of a clip; outside of blocks little else is alive.
        """
        inside, around = 0, 0
        for name, weight in held.items():
            making = weight.making_bytes(self.item)
            if wan_names.block_of(name) is None:
                around = max(around, making)
            else:
                inside = max(inside, making + self.item * weight.numbers)
        return max(self.peak_bytes, self.feeding_bytes + inside, self.stream_bytes + around)

    @property
    def kept_bytes(self) -> int:
        """What stale context keeps: of each layer what came, and its keys and values."""
        tensors = 3 if self.travel == 1 else 2
        return self.shape.num_layers * self.arrivals * tensors * self.shape.width * self.tokens * self.item
