"""What a UNet call costs on ranks that are not here: FLOP, bytes and messages from the plan, times what a machine is known to do.

A rank computes its clip, projects the frames that it fetches, and exchanges frames. With `turns`, as the sampler runs CFG on
more than one rank, one branch computes while the other's frames travel, and only what outlasts that costs time.
"""

from dataclasses import dataclass
from functools import cache

import torch
from diffusers import UNet3DConditionModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import standard
from parallel.families import traffic
from parallel.families.unet_shape import UNetShape, exchanges
from parallel.maths import clips, scope

BRANCHES = 2  # of CFG


@dataclass(frozen=True)
class Link:
    """Seconds of a small message to at most `AT_ONCE` others, and bytes a second that a rank sends while it gets as many."""

    name: str
    latency: float
    bandwidth: float


# An alltoall on 8 GPUs takes no longer than on 2, then time grows with the peers: 8 MB on 64 H800 take 296 to 338 us where seven at
# a time make 306 (github.com/NVIDIA/nccl/issues/1531).
AT_ONCE = 7
# NVLink: alltoall_perf up to 4 KB on 8 H20, 10.5 us (github.com/deepseek-ai/DeepEP/issues/303); sendrecv_perf of two H100, 180 GB/s
# (github.com/NVIDIA/nccl-tests/issues/268; all_reduce_perf of two A100 with 12 links, 208 GB/s: same place, issues/178).
# PCIe: alltoall_perf up to 32 B on two RTX 4090, 11.9 us (github.com/tinygrad/open-gpu-kernel-modules/issues/17); 24 GB/s is NCCL's
# own figure for such a slot (github.com/NVIDIA/nccl-tests/issues/307; all_reduce_perf of four RTX 4090, 25.7: first place, issues/36).
# 100 Gbit/s, RDMA: a small collective of two A40 in two machines, 34 us (github.com/NVIDIA/nccl-tests/issues/214); ib_write_bw from
# GPU memory over RoCE v2, 85 Gbit/s (github.com/openucx/ucx/issues/11121).
# 25 Gbit/s, TCP: broadcast_perf of 8 B on two V100 in two machines, 46 us (github.com/NVIDIA/nccl-tests/issues/82); NCCL's best there,
# 1.7 GB/s, where plain sockets have 2.6 both ways at once (same place, issues/83).
LINKS = (
    Link("NVLink", 10.5e-6, 180e9),
    Link("PCIe 4 x16", 11.9e-6, 24e9),
    Link("100 Gbit/s Ethernet", 34e-6, 10.6e9),
    Link("25 Gbit/s Ethernet", 46e-6, 1.7e9),
)
# The paper's longest run (table 1): 8 RTX 6000 Ada, of whose time 29 of 129 parts are synchronisation (table 3).
PAPER_FRAMES, PAPER_RANKS, PAPER_STEPS, PAPER_SECONDS, PAPER_SYNC = 2300, 8, 30, 312, 29 / 129
PAPER_SCOPE = (8, 16)  # local on either side, global


@dataclass(frozen=True)
class Model:
    """A UNet at one size of latents: its exchanges, and FLOP of one frame with both branches."""

    layers: list[traffic.FrameLayer]
    frame_flop: float


@dataclass(frozen=True)
class Machine:
    """FLOP a second of a whole UNet, and seconds that attention over frames takes beside, for a number of a query and a key."""

    flops: float
    pair_seconds: float = 0.0


@cache
def model(name: str, height: int, width: int) -> Model:
    """Return the "standard" bench's UNet or "video_crafter"'s."""
    config, tokens = {"standard": (standard.STANDARD, standard.TOKENS), "video_crafter": (standard.VIDEO_CRAFTER, 77)}[name]
    with torch.device("meta"):  # counted without computing
        unet = UNet3DConditionModel(**config).eval()
        sample, step = torch.empty(BRANCHES, 4, 1, height, width), torch.tensor(0)
        text = torch.empty(BRANCHES, tokens, unet.config["cross_attention_dim"])
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        unet(sample, step, encoder_hidden_states=text)
    shape = UNetShape(**{key: unet.config[key] for key in UNetShape.model_fields})
    return Model(exchanges(shape, height, width), counter.get_total_flops())


def paper_machine() -> Machine:
    """Return the paper's GPU, as its longest run shows it without synchronisation."""
    frames = PAPER_FRAMES / PAPER_RANKS * PAPER_STEPS
    return Machine(
        model("video_crafter", *standard.VIDEO_CRAFTER_LATENT).frame_flop * frames / (PAPER_SECONDS * (1 - PAPER_SYNC))
    )


def fit(few: tuple[float, float, float], many: tuple[float, float, float]) -> Machine:
    """Return the machine that explains two calls on one rank, each (FLOP, pairs, seconds)."""
    (flop, pairs, seconds), (flop2, pairs2, seconds2) = few, many
    apart = flop * pairs2 - flop2 * pairs
    each = (seconds * pairs2 - seconds2 * pairs) / apart
    return Machine(1 / each, (flop * seconds2 - flop2 * seconds) / apart)


def call_flop(unet: Model, span: scope.Span, ranks: int) -> float:
    """Return the FLOP of the busiest rank: its clip's, and keys and values of what it fetches."""
    each = BRANCHES * sum(layer.flop for layer in unet.layers)
    cut = clips.cut(span.frames, ranks)
    return max(len(clip) * unet.frame_flop + len(set(scope.keys(clip, span)) - set(clip)) * each for clip in cut)


def call_pairs(unet: Model, span: scope.Span, ranks: int) -> float:
    """Return queries times keys that the busiest rank scores, each as many times as it has numbers, over all layers."""
    length, cut = scope.block_length(span), clips.cut(span.frames, ranks)
    scored = (sum(len(b.queries) * len(b.keys) for b in scope.query_blocks(clip, span, length)) for clip in cut)
    return BRANCHES * max(scored) * sum(layer.numbers for layer in unet.layers if layer.flop)


def compute_seconds(machine: Machine, unet: Model, span: scope.Span, ranks: int) -> float:
    """Return the seconds of one UNet call without any exchange."""
    pairs = call_pairs(unet, span, ranks) if machine.pair_seconds else 0.0
    return call_flop(unet, span, ranks) / machine.flops + pairs * machine.pair_seconds


def sent_bytes(unet: Model, span: scope.Span, ranks: int, *, item: int) -> int:
    """Return the bytes that the busiest rank sends in one UNet call."""
    return max(traffic.sent_bytes(unet.layers, span, ranks, item=item, branches=BRANCHES))


def call_seconds(compute: float, sent: int, messages: int, link: Link, *, ranks: int, turns: bool) -> float:
    """Return the seconds of one UNet call from those of its parts; `messages` are those of a branch."""
    if ranks == 1:
        return compute
    small = messages * link.latency * max(1.0, (ranks - 1) / AT_ONCE)
    travel = sent / link.bandwidth
    if not turns:
        return compute + small + travel
    # Each branch waits where its frames take longer than the other's work, and the link is never faster than its bytes.
    return max(compute, (compute + BRANCHES * small + travel) / 2, travel)
