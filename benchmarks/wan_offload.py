"""What a Wan transformer takes whose blocks wait in host memory, weights and all, in real calls: `python -m benchmarks.wan_offload`

The standard bench's net in float32 at three lengths. Bytes of tensors that live at once are counted. Where host and device are one, as
here, what a call brings of the blocks are copies; weights outside the blocks, which a device holds throughout, are added.
"""

import time

import torch
from diffusers import WanTransformer3DModel

from benchmarks import wan_standard
from benchmarks.claims import Claim, report
from harness.live import LiveBytes
from parallel.families.wan_shape import ClipCall, WanShape
from parallel.layers.offload import block_by_block
from parallel.layers.patch import patched
from parallel.layers.view import View
from parallel.maths.slices import BLOCKS_AT_ONCE, Slices

LATENTS = (12, 48, 96)
SLICE = 2**20  # bytes, which the formula leaves out
ITEM = 4  # bytes of a float32
SHAPE = WanShape(
    num_attention_heads=wan_standard.HEADS,
    attention_head_dim=wan_standard.HEAD,
    ffn_dim=wan_standard.FEED_FORWARD,
    num_layers=wan_standard.BLOCKS,
)


def bytes_of(module: torch.nn.Module) -> int:
    """Return the bytes of a module's weights."""
    return sum(each.nbytes for each in module.parameters())


def peak(net: WanTransformer3DModel, latents: int) -> int:
    """Return the most bytes alive at once in a call, weights included, while blocks come and go."""
    view = View(wan_standard.alone(latents).group, wan_standard.span(latents), Slices(budget=SLICE))
    called, changes = wan_standard.call(latents), wan_standard.changes(net, view)
    outside = bytes_of(net) - bytes_of(net.blocks)
    live = LiveBytes(known=[*net.parameters(), *called])
    with torch.inference_mode(), patched(changes), live, block_by_block(net, net.blocks, view.group.device):
        net(*called, return_dict=False)
    return live.peak + outside


def formula(net: WanTransformer3DModel, latents: int) -> int:
    """Return the bytes that a plan reckons with."""
    waiting = (SHAPE.num_layers - BLOCKS_AT_ONCE) * SHAPE.block_numbers * ITEM
    call = ClipCall(SHAPE, wan_standard.SIDE**2, wan_standard.span(latents), latents, ITEM, travel=1)
    return bytes_of(net) - waiting + call.peak_bytes + SLICE


def main() -> int:
    torch.set_num_threads(1)
    began, net = time.perf_counter(), wan_standard.net()
    rows = {f"{latents} latents": {"measured": peak(net, latents), "formula": formula(net, latents)} for latents in LATENTS}
    over = [row["formula"] / row["measured"] for row in rows.values()]
    details = {f"MB of {name}": row["measured"] / 1e6 for name, row in rows.items()}
    details["MB of weights, if none waited"] = bytes_of(net) / 1e6
    claims = [
        Claim("Wan memory with block offload, formula over what lives, most", max(over), "<= 1.1", details),
        Claim("Wan memory with block offload, formula over what lives, least", min(over), ">= 0.9"),
    ]
    report("wan_offload", claims, began, rows=rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
