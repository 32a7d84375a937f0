"""What the shapes of weights say of a Wan's parts: the configurations that diffusers' folders would have.

What shapes do not tell is known of all released models: a head is 128 wide, and the mean and deviation of latents. Raises JobRefused
of nets that this version does not run; KeyError, ValueError, IndexError or ZeroDivisionError where shapes are those of no model.
"""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..job.errors import JobRefused
from . import wan_names
from .wan_index import TIMED_CHANNELS
from .wan_vae_shape import WanVAESizes

HEAD, VISION_HEAD = 128, 80  # widths of an attention's head, which no weight's shape tells
SPATIAL_TIMES = 2  # a level of a VAE halves height and width
CHANNELS = 16  # of the latents of 2.1 and A14B, whose mean and deviation are diffusers' defaults
TIMED_MEAN = [
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375,
    -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502, -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899,
    -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573,
    -0.0548, -0.1681, -0.0667,
]  # fmt: skip
TIMED_STD = [
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
    0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659, 0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
    0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
]  # fmt: skip
# Weights that other nets have beside those of a Wan, and whose they are.
VARIANTS = {
    "vace_": "VACE", "control_adapter.": "Fun Camera", "ref_conv.": "Fun Control", "casual_audio_encoder.": "S2V", "audio_proj.": "HuMo",
    "face_adapter.": "Animate", "motion_encoder.": "Animate", "patch_embedding_pose.": "SCAIL", "patch_embedding_global.": "WanDancer",
}  # fmt: skip
KNOWN_IN_BLOCK = {*wan_names.BLOCK.values(), "attn2.norm_added_q"}
Shapes = dict[str, tuple[int, ...]]


def net(file: Path, shapes: Shapes) -> dict[str, Any]:
    for name in shapes:
        inside = wan_names.IN_BLOCK.fullmatch(name)
        variant = next((kind for mark, kind in VARIANTS.items() if name.startswith(mark)), None)
        if variant is None and inside is not None and inside[2] not in KNOWN_IN_BLOCK:
            variant = f"variant that has {name}"
        if variant is not None:
            raise JobRefused(f"{file} holds a Wan {variant}: this version runs those that make videos from text or from images")
    width, takes, *patch = shapes["patch_embedding.weight"]
    if width % HEAD:
        raise JobRefused(
            f"{file} holds a net of width {width}: wanted a multiple of {HEAD}, as of every Wan: get the file again"
        )
    config = {
        "_class_name": "WanTransformer3DModel",
        "patch_size": patch,
        "num_attention_heads": width // HEAD,
        "attention_head_dim": HEAD,
        "in_channels": takes,
        "out_channels": shapes["proj_out.weight"][0] // math.prod(patch),
        "text_dim": shapes["condition_embedder.text_embedder.linear_1.weight"][1],
        "freq_dim": shapes["condition_embedder.time_embedder.linear_1.weight"][1],
        "ffn_dim": shapes["blocks.0.ffn.net.0.proj.weight"][0],
        "num_layers": _count(shapes, r"blocks\.(\d+)\."),
    }
    looks = shapes.get("condition_embedder.image_embedder.norm1.weight")
    if looks is not None:
        config |= {"image_dim": looks[0], "added_kv_proj_dim": shapes["blocks.0.attn2.add_k_proj.weight"][1]}
    places = shapes.get("condition_embedder.image_embedder.pos_embed")
    if places is not None:
        config["pos_embed_seq_len"] = places[1]
    return config


def vae(file: Path, shapes: Shapes) -> dict[str, Any]:
    base, takes = shapes["encoder.conv_in.weight"][:2]
    nested = any(name.startswith("encoder.down_blocks.0.resnets.") for name in shapes)
    levels = _nested_levels(shapes) if nested else _flat_levels(shapes)
    widths, blocks, doubles = [width for width, _, _ in levels], levels[0][1], [bool(doubled) for _, _, doubled in levels[:-1]]
    mult = [width // base for width in widths]
    channels = shapes["quant_conv.weight"][0] // 2
    patch = math.isqrt(takes // 3)
    config: dict[str, Any] = {
        "_class_name": "AutoencoderKLWan",
        "base_dim": base,
        "z_dim": channels,
        "dim_mult": mult,
        "num_res_blocks": blocks,
        "temperal_downsample": doubles,
        "scale_factor_spatial": SPATIAL_TIMES ** (len(mult) - 1) * patch,
        "scale_factor_temporal": 2 ** sum(doubles),
    }
    if nested or patch > 1:  # of 2.2: diffusers older than 0.35 does not know these words
        outer = shapes["decoder.conv_out.weight"]
        config |= {
            "is_residual": nested,
            "decoder_base_dim": outer[1] // mult[0],
            "in_channels": takes,
            "out_channels": outer[0],
        }
        config["patch_size"] = patch if patch > 1 else None
    if channels not in (CHANNELS, TIMED_CHANNELS):
        raise JobRefused(
            f"{file} makes latents of {channels} channels, whose mean and deviation this version does not know: wanted {CHANNELS} or "
            f"{TIMED_CHANNELS}, or a folder in diffusers format"
        )
    known = WanVAESizes()
    mean, std = (TIMED_MEAN, TIMED_STD) if channels == TIMED_CHANNELS else (known.latents_mean, known.latents_std)
    return config | {"latents_mean": list(mean), "latents_std": list(std)}


def _flat_levels(shapes: Shapes) -> list[tuple[int, int, bool]]:
    """Return the width, the residual blocks, and whether it halves the frames, of each level of 2.1's encoder."""
    levels, blocks, width = [], 0, 0
    for number in range(_count(shapes, r"encoder\.down_blocks\.(\d+)\.")):
        layer = f"encoder.down_blocks.{number}"
        if f"{layer}.conv1.weight" in shapes:
            blocks, width = blocks + 1, shapes[f"{layer}.conv1.weight"][0]
        else:
            levels.append((width, blocks, f"{layer}.time_conv.weight" in shapes))
            blocks = 0
    return [*levels, (width, blocks, False)]


def _nested_levels(shapes: Shapes) -> list[tuple[int, int, bool]]:
    """Return the same of each level of 2.2's."""
    levels = []
    for number in range(_count(shapes, r"encoder\.down_blocks\.(\d+)\.")):
        level = f"encoder.down_blocks.{number}"
        blocks = _count(shapes, rf"encoder\.down_blocks\.{number}\.resnets\.(\d+)\.")
        levels.append((shapes[f"{level}.resnets.0.conv1.weight"][0], blocks, f"{level}.downsampler.time_conv.weight" in shapes))
    return levels


def umt5(file: Path, shapes: Shapes) -> dict[str, Any]:
    vocabulary, width = shapes.get("shared.weight") or shapes["encoder.embed_tokens.weight"]
    first = "encoder.block.0.layer"
    buckets, heads = shapes[f"{first}.0.SelfAttention.relative_attention_bias.weight"]
    inner = shapes[f"{first}.0.SelfAttention.q.weight"][0]
    return {
        "architectures": ["UMT5EncoderModel"],
        "model_type": "umt5",
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": inner // heads,
        "num_heads": heads,
        "d_ff": shapes[f"{first}.1.DenseReluDense.wi_0.weight"][0],
        "num_layers": _count(shapes, r"encoder\.block\.(\d+)\."),
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
        "tie_word_embeddings": False,
    }


def clip_vision(file: Path, shapes: Shapes) -> dict[str, Any]:
    width, _, patch, _ = shapes["vision_model.embeddings.patch_embedding.weight"]
    side = math.isqrt(shapes["vision_model.embeddings.position_embedding.weight"][0] - 1)
    return {
        "architectures": ["CLIPVisionModel"],
        "model_type": "clip_vision_model",
        "hidden_size": width,
        "intermediate_size": shapes["vision_model.encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": _count(shapes, r"vision_model\.encoder\.layers\.(\d+)\."),
        "num_attention_heads": max(1, width // VISION_HEAD),
        "image_size": side * patch,
        "patch_size": patch,
        "hidden_act": "gelu",
    }


def _count(names: Iterable[str], pattern: str) -> int:
    """Return how many layers there are, which are numbered from 0 without a gap; raise ValueError otherwise."""
    numbers = {int(found[1]) for found in map(re.compile(pattern).match, names) if found is not None}
    if numbers != set(range(len(numbers))) or not numbers:
        raise ValueError(f"layers {str(sorted(numbers))[:60]}")
    return len(numbers)
