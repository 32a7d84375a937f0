"""How often and how much the ranks of a Wan video send, by formula, and that real ranks do: `python -m benchmarks.wan_plan`

Wan 2.2 A14B at 832x480 and 241 frames in bfloat16, with the scopes that suit it. Which latents travel is counted; a net's blocks and
width and a latent's tokens are factors. So a small net on the same latents shows on real ranks whether the count is right.
"""

import time
from dataclasses import replace
from typing import Any

import torch
from diffusers import WanTransformer3DModel

from benchmarks import two_ranks, wan_changes
from benchmarks.claims import Claim, report
from parallel.comm.group import Group, Meter
from parallel.families import traffic
from parallel.families.geometry import Geometry
from parallel.families.wan_index import Training
from parallel.families.wan_shape import WanShape, exchanges
from parallel.families.wan_vae_shape import WanVAESizes, decode_reach
from parallel.job.job import Job, Prompt, checked
from parallel.layers.patch import patched
from parallel.layers.travel import Travel
from parallel.layers.view import View
from parallel.maths import clips
from parallel.models.wan import NoRotation

VIDEO = checked(
    Job, model="Wan2.2-T2V-A14B", prompts=(Prompt(frame=0, text=""),), frames=241, height=480, width=832, dtype="bfloat16"
)
GEOMETRY = Geometry.trained_on(Training().trained_frames, scale=8, frames_per_latent=4)
SPAN = GEOMETRY.span(VIDEO)
A14B, VAE = WanShape(), WanVAESizes()
SMALL = WanShape(
    num_attention_heads=2,
    attention_head_dim=12,
    in_channels=4,
    out_channels=4,
    text_dim=16,
    freq_dim=16,
    ffn_dim=32,
    num_layers=3,
)
SIDE = 2  # tokens of the small net's latents, either way
RANKS, REAL_RANKS = (2, 4, 8), (2, 4)
TRAVELS: tuple[Travel, ...] = ("hidden_states", "keys_values")


def sent(shape: WanShape, tokens: int, ranks: int, travel: Travel, *, item: int) -> list[int]:
    """Return the bytes that each rank sends in one call, by formula."""
    return traffic.sent_bytes(exchanges(shape, tokens, keys_values=travel == "keys_values"), SPAN, ranks, item=item)


def meter(group: Group, travel: Travel) -> tuple[int, int]:
    """Return the messages and bytes that this rank sends in one call of the small net."""
    sizes = {name: getattr(SMALL, name) for name in WanShape.model_fields}
    net = WanTransformer3DModel(**sizes).eval().requires_grad_(False)
    net.rope = NoRotation()
    view = View(group, SPAN)
    frames = len(view.clip)
    changes = wan_changes.changes(net, view, {0: wan_changes.one_text(frames)}, size=(SIDE, SIDE), travel=travel)
    video = torch.zeros(1, SMALL.in_channels, frames, 2 * SIDE, 2 * SIDE)
    with torch.inference_mode(), patched(changes):
        net(video, torch.tensor([500.0]), torch.zeros(1, 4, SMALL.text_dim))
    return group.meter.messages, group.meter.sent


def meter_all(group: Group) -> dict[Travel, tuple[int, int]]:
    """Return what `meter` does, of each that may travel."""
    return {travel: meter(replace(group, meter=Meter()), travel) for travel in TRAVELS}


def row(ranks: int) -> dict[str, Any]:
    """Return what the plan of the video says for so many ranks: gigabytes of the rank that sends most, in one step."""
    tokens = A14B.tokens(VIDEO.height // 8, VIDEO.width // 8)
    cut = clips.cut(SPAN.frames, ranks)
    found: dict[str, Any] = {
        "latents a rank": " or ".join(map(str, sorted({len(clip) for clip in cut}, reverse=True))),
        "messages a step, cfg 1": A14B.num_layers,
        "messages a step, cfg > 1": 2 * A14B.num_layers,
    }
    for travel in TRAVELS:
        most = max(sent(A14B, tokens, ranks, travel, item=VIDEO.item_bytes))
        found[f"GB a step, cfg 1, {travel}"] = most / 1e9
        found[f"GB a step, cfg > 1, {travel}"] = 2 * most / 1e9
    shape = GEOMETRY.latents_shape(VAE.z_dim, frames=VIDEO.frames, height=VIDEO.height, width=VIDEO.width)
    channels, latents, height, width = shape
    once = traffic.context_bytes(latents, ranks, reach=decode_reach(VAE), bytes_each=4 * channels * height * width)
    return {**found, "MB once, before frames are decoded": max(once) / 1e6}


def main() -> int:
    began = time.perf_counter()
    rows = {str(ranks): row(ranks) for ranks in RANKS}
    for ranks, said in rows.items():
        print(f"{ranks} ranks: {said}", flush=True)
    apart, details = 0, {}
    for size in REAL_RANKS:
        ranks_met = two_ranks.run(meter_all, size=size)
        for travel in TRAVELS:
            met = [each[travel] for each in ranks_met]
            said = sent(SMALL, SIDE**2, size, travel, item=4)
            apart += sum(abs(counted - by_formula) for (_, counted), by_formula in zip(met, said, strict=True))
            apart += sum(abs(messages - SMALL.num_layers) for messages, _ in met)
            details[f"bytes by rank, {size} ranks, {travel}"] = ", ".join(f"{counted:,}" for _, counted in met)
    claim = Claim("Wan messages and bytes, formula against ranks", float(apart), "<= 0", details)
    report("wan_plan", [claim], began, rows=rows, scope={"local": SPAN.local_context, "global": SPAN.global_frames})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
