"""How often and how much ranks send: `python -m benchmarks.exchanges`

Messages and bytes of one UNet call, counted on two real ranks and by parallel/families/traffic.py, against one message for each layer
that mixes frames: every temporal attention, temporal convolution and group norm over frames.
"""

import time

import torch

from benchmarks import standard, two_ranks
from benchmarks.claims import Claim, report
from parallel.comm.group import Group
from parallel.families import traffic
from parallel.families.unet_shape import UNetShape, count_messages, exchanges
from parallel.layers.attention import Biases
from parallel.layers.patch import patched
from parallel.layers.view import View
from parallel.maths.scope import Span
from parallel.models import unet3d

SPAN = Span(standard.FRAMES, standard.LOCAL, standard.GLOBAL)
PAPER = Span(2300, 8, 16)  # the paper's longest video and its scopes


def count(group: Group) -> tuple[int, int]:
    """Return the messages and bytes that this rank sends in one UNet call."""
    unet, view = standard.unet(), View(group, SPAN)
    video, text = standard.call(standard.FRAMES)
    own = video[:, :, view.clip.start : view.clip.stop]
    with torch.inference_mode(), patched(unet3d.frame_changes(unet, view, Biases(view))):
        unet(own, 500, encoder_hidden_states=text)
    return group.meter.messages, group.meter.sent


def naive(shape: UNetShape) -> int:
    """Return the exchanges of a UNet call with one a layer: a convolution's norm is a layer of its own."""
    layers = shape.frame_layers()
    return layers["attention"] + 2 * layers["convolution"] + layers["norm"]


def main() -> int:
    began = time.perf_counter()
    config = standard.unet().config
    shape, crafter = UNetShape(**{name: config[name] for name in UNetShape.model_fields}), UNetShape()
    (messages, sent), _ = two_ranks.run(count)
    layers = exchanges(shape, standard.LATENT, standard.LATENT)
    big = exchanges(crafter, *standard.VIDEO_CRAFTER_LATENT)
    middle = traffic.sent_bytes(big, PAPER, 8, item=2)[4]
    details = {
        "messages a UNet call, measured": messages,
        "one a layer": naive(shape),
        "MB a rank and call, measured": sent / 1e6,
        "MB a rank and call, by the plan": traffic.sent_bytes(layers, SPAN, 2, item=4, branches=2)[0] / 1e6,
        "VideoCrafter2, messages": f"{count_messages(crafter)} of {naive(crafter)}",
        "VideoCrafter2 at 512x320 on 8 ranks, MB a middle rank and branch, by the plan": middle / 1e6,
        "the same by the formula": traffic.formula_bytes(big, PAPER, 8, item=2) / 1e6,
    }
    report("exchanges", [Claim("exchanges", messages / naive(shape), "<= 0.6", details)], began)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
