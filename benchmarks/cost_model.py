"""What a UNet call costs on ranks that this machine does not have: the plan's messages and bytes, and a link's two numbers.

A call takes the compute of the longest clip's frames, the projection of the frames that it fetches, and communication: a latency
for each message and a time for each byte. Communication counts in full, as if nothing hid behind compute.
"""

from dataclasses import dataclass

from benchmarks.standard import VIDEO_CRAFTER_CALL_TFLOP, VIDEO_CRAFTER_LATENT
from parallel import traffic
from parallel.folder import UNetShape
from parallel.maths import clips, scope


@dataclass(frozen=True)
class Link:
    """Seconds a message, and bytes a second that a rank sends and gets at the same time."""

    name: str
    latency: float
    bandwidth: float


# Bandwidths are what the standards leave after encoding, one way: PCIe 4.0 x16 31.5 GB/s (PCI-SIG), of which NCCL reaches about 24;
# NVLink 4 of an H100, 450 GB/s (NVIDIA H100 data sheet: 900 GB/s both ways); Ethernet at its line rate less 6 % of headers.
# Latencies are those of a small collective: about 20 us within a machine (NVIDIA nccl-tests), 50 us over RDMA, 100 us over TCP.
LINKS = (
    Link("NVLink 4", 20e-6, 450e9),
    Link("PCIe 4 x16", 20e-6, 24e9),
    Link("100 Gbit/s Ethernet", 50e-6, 11.7e9),
    Link("25 Gbit/s Ethernet", 100e-6, 2.9e9),
)
# The paper's own run: 2,300 frames, 30 steps, 8 RTX 6000 Ada, 312 s, of which it spends 29 / 129 on synchronisation (table 3).
PAPER_FRAMES, PAPER_STEPS, PAPER_SECONDS, PAPER_RANKS, PAPER_SYNC = 2300, 30, 312, 8, 29 / 129
PAPER_SPAN = (8, 16)
# A temporal transformer spends 22 C^2 multiplications a token, and 4 C^2 on keys and values of a frame that it fetches twice.
FETCHED_SHARE = 4 / 22


@dataclass(frozen=True)
class Machine:
    """Seconds that a frame takes in a UNet call, the share of it in temporal transformers, and the link."""

    frame_seconds: float
    temporal_share: float
    link: Link
    call_seconds: float = 0.0  # of a call, whatever the frames


def paper_gpu(link: Link) -> Machine:
    """Return an RTX 6000 Ada as the paper's longest run shows it."""
    seconds = PAPER_SECONDS * (1 - PAPER_SYNC) / PAPER_STEPS / (PAPER_FRAMES / PAPER_RANKS)
    return Machine(seconds, 0.25, link)


def achieved_tflops(machine: Machine) -> float:
    """Return the TFLOP/s that a machine reaches on VideoCrafter2's UNet at 512x320 with CFG."""
    return VIDEO_CRAFTER_CALL_TFLOP / 24 / machine.frame_seconds


def fetched_frames(span: scope.Span, ranks: int) -> int:
    """Return the most frames that a rank fetches for one attention."""
    return max(len(set(scope.keys(clip, span)) - set(clip)) for clip in clips.cut(span.frames, ranks))


def call_seconds(machine: Machine, span: scope.Span, ranks: int, sent: int, messages: int) -> float:
    """Return the seconds of one UNet call, both branches; `sent` bytes and `messages` a rank for both."""
    longest = len(clips.cut(span.frames, ranks)[0])
    fetched = FETCHED_SHARE * machine.temporal_share * fetched_frames(span, ranks) if ranks > 1 else 0.0
    compute = machine.call_seconds + machine.frame_seconds * (longest + fetched)
    return compute + (messages * machine.link.latency + sent / machine.link.bandwidth if ranks > 1 else 0.0)


def crafter_seconds(machine: Machine, frames: int, ranks: int) -> float:
    """Return the seconds of one step of VideoCrafter2 at 512x320 in half precision, with the paper's scopes."""
    span = scope.Span(frames, *PAPER_SPAN)
    layers = traffic.frame_layers(UNetShape(), *VIDEO_CRAFTER_LATENT)
    sent = 2 * max(traffic.sent_bytes(layers, span, ranks, item=2)) if ranks > 1 else 0
    return call_seconds(machine, span, ranks, sent, 2 * len(layers))
