"""The names of a UMT5 encoder's weights: llama.cpp's, which text encoders in GGUF have, and transformers'. One to one."""

import re
from collections.abc import Iterable

BLOCK = {
    "attn_norm": "layer.0.layer_norm", "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    **{f"attn_{name}": f"layer.0.SelfAttention.{name}" for name in "qkvo"},
    "ffn_norm": "layer.1.layer_norm", "ffn_gate": "layer.1.DenseReluDense.wi_0", "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
}  # fmt: skip
AROUND = {"token_embd.weight": "shared.weight", "enc.output_norm.weight": "encoder.final_layer_norm.weight"}
IN_BLOCK = re.compile(r"enc\.blk\.(\d+)\.(\w+)\.weight")
MARK = "enc.blk.1.attn_rel_b.weight"  # UMT5 has one a layer, T5 in its first alone


def to_transformers(names: Iterable[str]) -> dict[str, str]:
    """Return transformers' names of some weights by those that a file has; a name that is none of llama.cpp's stays as it is."""
    return {name: _renamed(name) for name in names}


def _renamed(name: str) -> str:
    inside = IN_BLOCK.fullmatch(name)
    if inside is not None and inside[2] in BLOCK:
        return f"encoder.block.{inside[1]}.{BLOCK[inside[2]]}.weight"
    return AROUND.get(name, name)
