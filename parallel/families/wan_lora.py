"""Which layers of a Wan net a LoRA may change, by diffusers' names and its makers', and how large they are."""

from . import lora, wan_names
from .lora import LoraFile, Target
from .wan_shape import WanShape

ALONE = ("scale_shift_table", "pos_embed")  # parameters, not layers: they end their name
WITHOUT_BIAS = ("norm_q", "norm_k", "norm_added_k")


def targets(shape: WanShape) -> dict[str, Target]:
    """Return the layers of a net, by diffusers' names."""
    sizes = {f"blocks.{number}.{layer}": size for number in range(shape.num_layers) for layer, size in _block(shape).items()}
    return {layer: _target(layer, size) for layer, size in (sizes | _around(shape)).items()}


def read(file: str, shape: WanShape) -> LoraFile:
    """Return what a LoRA changes of a net; raise JobRefused if it can't be put into it."""
    known = targets(shape)
    return lora.read(file, known, {spelling: layer for layer in known for spelling in (layer, wan_names.to_original(layer))})


def _target(layer: str, size: tuple[int, ...]) -> Target:
    name = layer.rpartition(".")[2]
    if name in ALONE:
        return Target(layer, size, None)
    return Target(f"{layer}.weight", size, None if name in WITHOUT_BIAS else f"{layer}.bias")


def _block(shape: WanShape) -> dict[str, tuple[int, ...]]:
    """Return the layers of a block, and their weights' shapes."""
    width, inner = shape.width, shape.ffn_dim
    layers: dict[str, tuple[int, ...]] = {
        "ffn.net.0.proj": (inner, width), "ffn.net.2": (width, inner), "norm2": (width,), "scale_shift_table": (1, 6, width),
    }  # fmt: skip
    for attention in ("attn1", "attn2"):
        layers |= {f"{attention}.{name}": (width, width) for name in ("to_q", "to_k", "to_v", "to_out.0")}
        layers |= {f"{attention}.{name}": (width,) for name in ("norm_q", "norm_k")}
    if shape.added_kv_proj_dim is not None:
        layers |= {f"attn2.{name}": (width, shape.added_kv_proj_dim) for name in ("add_k_proj", "add_v_proj")}
        layers["attn2.norm_added_k"] = (width,)
    return layers


def _around(shape: WanShape) -> dict[str, tuple[int, ...]]:
    """Return the layers outside of blocks, and their weights' shapes."""
    width, patch = shape.width, shape.patch_size[0] * shape.patch_size[1] * shape.patch_size[2]
    layers: dict[str, tuple[int, ...]] = {
        "patch_embedding": (width, shape.in_channels, *shape.patch_size), "proj_out": (shape.out_channels * patch, width),
        "scale_shift_table": (1, 2, width), "condition_embedder.time_embedder.linear_1": (width, shape.freq_dim),
        "condition_embedder.time_embedder.linear_2": (width, width), "condition_embedder.time_proj": (6 * width, width),
        "condition_embedder.text_embedder.linear_1": (width, shape.text_dim), "condition_embedder.text_embedder.linear_2": (width, width),
    }  # fmt: skip
    if shape.image_dim is not None:
        looks = "condition_embedder.image_embedder"
        layers |= {f"{looks}.norm1": (shape.image_dim,), f"{looks}.norm2": (width,)}
        layers |= {f"{looks}.ff.net.0.proj": (shape.image_dim, shape.image_dim), f"{looks}.ff.net.2": (width, shape.image_dim)}
    return layers
