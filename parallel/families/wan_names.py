"""The names of a Wan net's weights: its makers', which ComfyUI's files and LoRAs have, and diffusers'. One to one."""

import re

# Of a block, and of the rest: the makers' name of a layer or parameter -> diffusers'.
BLOCK = {
    "modulation": "scale_shift_table", "norm3": "norm2", "ffn.0": "ffn.net.0.proj", "ffn.2": "ffn.net.2",
    "cross_attn.k_img": "attn2.add_k_proj", "cross_attn.v_img": "attn2.add_v_proj", "cross_attn.norm_k_img": "attn2.norm_added_k",
    **{
        f"{theirs}.{layer}": f"{ours}.{named}"
        for theirs, ours in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for layer, named in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"), ("norm_q", "norm_q"), ("norm_k", "norm_k"))
    },
}  # fmt: skip
AROUND = {
    "patch_embedding": "patch_embedding", "head.head": "proj_out", "head.modulation": "scale_shift_table",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1", "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1", "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj", "img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1", "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2", "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
}  # fmt: skip
IN_BLOCK = re.compile(r"(blocks\.\d+)\.(.+?)(\.weight|\.bias)?")
ELSEWHERE = re.compile(r"(.+?)(\.weight|\.bias)?")
MARKS = ("head.modulation", "condition_embedder.time_proj.weight")  # of the makers' names, of diffusers': one is in every net


def to_diffusers(name: str) -> str:
    """Return diffusers' name of a weight by its makers'; a name that is none of theirs stays as it is."""
    return _renamed(name, BLOCK, AROUND)


def to_original(name: str) -> str:
    """Return the makers' name of a weight by diffusers'; a name that is none of its stays as it is."""
    return _renamed(name, {new: old for old, new in BLOCK.items()}, {new: old for old, new in AROUND.items()})


def block_of(name: str) -> int | None:
    """Return the number of the block that a weight or layer is of; None if it is of none."""
    inside = IN_BLOCK.fullmatch(name)
    return None if inside is None else int(inside[1].removeprefix("blocks."))


def _renamed(name: str, block: dict[str, str], around: dict[str, str]) -> str:
    inside = IN_BLOCK.fullmatch(name)
    if inside is not None:
        return f"{inside[1]}.{block.get(inside[2], inside[2])}{inside[3] or ''}"
    found = ELSEWHERE.fullmatch(name)
    assert found is not None, "it takes any name"
    return f"{around.get(found[1], found[1])}{found[2] or ''}"
