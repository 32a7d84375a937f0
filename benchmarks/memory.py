"""What a frame keeps in memory during a UNet call: `python -m benchmarks.memory`

VideoCrafter2's UNet at 512x320 in float16, in slices, guidance's branches one after the other. Bytes of live tensors are
counted, not allocated blocks. At full size tensors have shapes but no numbers (the device `meta`), so nothing is computed; at a
small size, with all its channels, the same count is made of a real run. The formula is parallel/families/unet_shape.py's.
"""

import time

import torch
from diffusers import UNet3DConditionModel

from benchmarks import standard
from benchmarks.claims import Claim, report
from harness.live import LiveBytes
from parallel.comm.group import Group
from parallel.families.unet_shape import UNetShape, peak_numbers
from parallel.layers.attention import Biases
from parallel.layers.patch import patched
from parallel.layers.view import View
from parallel.maths.scope import Span
from parallel.maths.slices import Slices
from parallel.models import unet3d

FRAMES = (64, 128)  # the second has so many more, and what those add is what a frame costs
REAL_FRAMES, REAL_LATENT = (8, 16), (16, 8)
BUDGET = 128 * 2**20  # bytes of a slice: they do not count a frame
LONG, WEIGHTS = 2300, 2.8e9  # the paper's longest video, on one card


def unet(device: str, dtype: torch.dtype) -> UNet3DConditionModel:
    """Return VideoCrafter2's UNet, its weights zeros."""
    with torch.device("meta"):
        net = UNet3DConditionModel(**standard.VIDEO_CRAFTER).to(dtype).eval().requires_grad_(False)
    if device == "meta":
        return net
    net = net.to_empty(device=device)
    for tensor in [*net.parameters(), *net.buffers()]:
        tensor.zero_()
    return net


def peak(net: UNet3DConditionModel, frames: int, latent: tuple[int, int], *, offload: bool, slices: Slices) -> int:
    """Return the most bytes of activations alive at once in a UNet call of one branch."""
    device, dtype = net.device, net.dtype
    video = torch.zeros(1, 4, frames, *latent, dtype=dtype, device=device)
    text = torch.zeros(1, standard.TOKENS, standard.VIDEO_CRAFTER["cross_attention_dim"], dtype=dtype, device=device)
    view = View(Group(0, 1, device), Span(frames, 8, 16), slices)
    changes = unet3d.frame_changes(net, view, Biases(view), offload_skips=offload)
    with torch.inference_mode(), patched(changes), LiveBytes(device.type, net.parameters()) as live:
        net(video, torch.tensor(500, device=device), encoder_hidden_states=text)
    return live.peak


def a_frame(
    net: UNet3DConditionModel, frames: tuple[int, int], latent: tuple[int, int], *, offload: bool, slices: Slices
) -> tuple:
    """Return (bytes a frame, bytes besides)."""
    few, many = (peak(net, count, latent, offload=offload, slices=slices) for count in frames)
    each = (many - few) / (frames[1] - frames[0])
    return each, few - each * frames[0]


def formula(latent: tuple[int, int], dtype: torch.dtype, *, offload: bool) -> int:
    """Return the bytes a frame that the plan reckons with."""
    return peak_numbers(UNetShape(), latent[0] * latent[1], offload_skips=offload) * dtype.itemsize


def main() -> int:
    began = time.perf_counter()
    outline, claims, rows = unet("meta", torch.float16), [], {}
    for offload, name, target in ((False, "memory", "<= 10"), (True, "memory, skips parked", "<= 6")):
        latent = standard.VIDEO_CRAFTER_LATENT
        each, besides = a_frame(outline, FRAMES, latent, offload=offload, slices=Slices(budget=BUDGET))
        said = formula(latent, torch.float16, offload=offload)
        total = each * LONG + besides + WEIGHTS
        details = {"MB a frame by the formula": said / 1e6, f"GB for {LONG} frames on one card, with weights": total / 1e9}
        claims.append(Claim(name, each / 1e6, target, details))
        rows[name] = {"measured": each, "formula": said, "besides": besides}
    real = unet("cpu", torch.float32)
    each, _ = a_frame(real, REAL_FRAMES, REAL_LATENT, offload=False, slices=Slices(frames=1, pixels=1))
    said = formula(REAL_LATENT, torch.float32, offload=False)
    rows[f"a real run of {REAL_LATENT[0]}x{REAL_LATENT[1]} latents"] = {"measured": each, "formula": said}
    worst = max(abs(row["measured"] / row["formula"] - 1) for row in rows.values())
    claims.append(Claim("memory, formula against runs", worst, "<= 0.1"))
    report("memory", claims, began, rows=rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
