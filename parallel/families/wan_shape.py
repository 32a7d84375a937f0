"""A Wan transformer and its VAE as numbers, from their configurations alone: exchanges, and what a latent keeps alive."""

from typing import Annotated

from pydantic import Field

from ..job.job import Frozen
from .frame_layer import FrameLayer

Size = Annotated[int, Field(ge=1)]
STREAMS = 8  # times the width: hidden states, their float32 copies around norms and gates, the output of a layer
PROJECTED = 10  # the same in a self-attention: queries, keys, values, rotated ones, what came, the output
DECODER_TENSORS = 8  # of a latent's frames at full size that are alive at once while the VAE decodes, caches included


class WanShape(Frozen):
    """The sizes of a `WanTransformer3DModel`, under diffusers' names and with its defaults."""

    patch_size: tuple[Size, Size, Size] = (1, 2, 2)
    num_attention_heads: int = Field(40, ge=1)
    attention_head_dim: int = Field(128, ge=6, le=1024)
    in_channels: int = Field(16, ge=1)
    out_channels: int = Field(16, ge=1)
    text_dim: int = 4096
    ffn_dim: int = Field(13824, ge=1)
    num_layers: int = Field(40, ge=1)
    image_dim: int | None = None
    added_kv_proj_dim: int | None = None
    # Of its table of rotary positions, which diffusers makes, times the width of a head, before any weight is looked at.
    rope_max_seq_len: int = Field(1024, ge=1, le=1 << 14)

    @property
    def width(self) -> int:
        """Numbers of a token."""
        return self.num_attention_heads * self.attention_head_dim

    def tokens(self, height: int, width: int) -> int:
        """Return how many tokens a latent of a size has."""
        return (height // self.patch_size[1]) * (width // self.patch_size[2])


class WanVAESizes(Frozen):
    """The sizes of an `AutoencoderKLWan`, under diffusers' names and with its defaults."""

    base_dim: int = 96
    decoder_base_dim: int | None = None
    z_dim: int = Field(16, ge=1)
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = Field(2, ge=0)
    temperal_downsample: tuple[bool, ...] = (False, True, True)
    latents_mean: tuple[float, ...] = (
        -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
        0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
    )  # fmt: skip
    latents_std: tuple[float, ...] = (
        2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
        3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
    )  # fmt: skip
    patch_size: int | None = None
    scale_factor_temporal: int = Field(4, ge=1)
    scale_factor_spatial: int = Field(8, ge=1)


def exchanges(shape: WanShape, tokens: int, *, keys_values: bool) -> list[FrameLayer]:
    """Return the exchanges of one call on one branch: one a self-attention, of hidden states or of keys and values."""
    numbers, width = shape.width * tokens, shape.width
    layer = FrameLayer(
        "attention", numbers * (2 if keys_values else 1), False, 0 if keys_values else 4 * width * width * tokens
    )
    return [layer] * shape.num_layers


def peak_numbers(shape: WanShape, tokens: int) -> int:
    """Return how many numbers a latent keeps alive at the fullest instant of a call; the feed-forward works in slices."""
    return (STREAMS + PROJECTED) * shape.width * tokens


def decode_reach(vae: WanVAESizes) -> int:
    """Return how many latents before its own the frames of a latent depend on: every causal convolution looks back two frames."""
    frames, rate = 2, 2 ** sum(vae.temperal_downsample)  # through the last convolution; frames of a latent at its rate
    doubles = (False, *vae.temperal_downsample)  # from the level at full size inwards, what made a level's frames
    for doubled in doubles[: len(vae.dim_mult)]:
        if doubled:
            frames, rate = -(-frames // 2) + 2, rate // 2
        frames += 2 * 2 * (vae.num_res_blocks + 1)
    frames += 2 * (4 + 1)  # the middle's two blocks, and the first convolution
    return -(-frames // rate)


def decode_numbers(vae: WanVAESizes, pixels: int) -> int:
    """Return how many numbers the VAE keeps alive while it decodes one latent, of frames of so many pixels."""
    width = vae.decoder_base_dim or vae.base_dim
    return DECODER_TENSORS * vae.scale_factor_temporal * width * pixels // (vae.patch_size or 1) ** 2
