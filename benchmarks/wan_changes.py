"""What makes a Wan transformer of any sizes work on a clip, as models/wan.py does for a job's, and a text for it to hear."""

from math import prod

from diffusers import WanTransformer3DModel

from parallel.layers.cross_attention import Heard, Run, TextAttention
from parallel.layers.dual_scope import DualScopeAttention, Grid, Plans
from parallel.layers.patch import Change, Swap
from parallel.layers.tokens import OverTokens
from parallel.layers.travel import Travel
from parallel.layers.view import View


def changes(
    made: WanTransformer3DModel, view: View, heard: dict[int, Heard], *, size: tuple[int, int], travel: Travel = "hidden_states"
) -> list[Change]:
    """Return the changes of a net whose latents are of a size in tokens; `heard` is what they attend to, by the number of the call."""
    plans, grid = Plans(view, "near"), Grid(size, made.config["attention_head_dim"])
    found: list[Change] = []
    for block in made.blocks:
        found.append(Swap(block.attn1, "processor", DualScopeAttention(view, plans, grid, travel=travel)))
        found.append(Swap(block.attn2, "processor", TextAttention(view, heard, tokens=prod(size))))
        found.append(Swap(block, "ffn", OverTokens(block.ffn, view.slices, width=made.config["ffn_dim"])))
    return found


def one_text(latents: int, branches: int = 1) -> Heard:
    """Return that all latents of a branch hear the same, each branch its own text."""
    return Heard([Run(branch, slice(0, latents), branch) for branch in range(branches)])
