"""What a step of Wan costs on GPUs that are not here: its work, counted, times what a GPU is known to do; links are cost_model's.

A GPU is three measured figures: seconds of all that is done for each token alone, seconds of attention for a query latent and a key
latent, and what it takes to gather the keys of dual scope. Weights that wait in host memory come behind compute and are not reckoned.
"""

from dataclasses import dataclass
from functools import cache

from benchmarks import cost_model
from parallel.families import traffic
from parallel.families.geometry import Geometry
from parallel.families.wan_shape import TEXT_LENGTH, ClipCall, WanShape, exchanges
from parallel.maths import clips, places
from parallel.maths.scope import Span
from parallel.maths.slices import BLOCKS_AT_ONCE

NETS = {
    "Wan 2.2 14B": WanShape(),
    "Wan 2.1 1.3B": WanShape(num_attention_heads=12, ffn_dim=8960, num_layers=30),
}
SIZES = {"832x480": (60, 104), "1280x720": (90, 160)}  # pixels, and latent pixels, height and width
FRAMES = (241, 1001, 10001)
LOCAL, GLOBAL, TRAINED = 6, 8, 21  # latents
GEOMETRY = Geometry.trained_on(81, scale=8, frames_per_latent=4)
ITEM, BRANCHES = 2, 2  # bytes of a bfloat16; guidance's calls a step
SMALL, SMALL_TOKENS = NETS["Wan 2.1 1.3B"], 1560  # whose figures are published, and a latent's tokens at 832x480


@dataclass(frozen=True)
class GPU:
    """FLOP a second of what is done for each token alone, and of attention; bytes a second that gathering keys and values reads."""

    name: str
    token_flops: float
    pair_flops: float
    gathered: float
    memory: float  # bytes


def link_names(gpu: GPU) -> tuple[str, ...]:
    """Return the links that a GPU can have."""
    return ("PCIe 4 x16", "100 Gbit/s Ethernet") if gpu.name == "RTX 4090" else ("NVLink", "PCIe 4 x16", "100 Gbit/s Ethernet")


def latents_of(frames: int) -> int:
    """Return the latents of a video."""
    return GEOMETRY.latents(frames)


def token_flop(shape: WanShape) -> float:
    """Return the FLOP of one token in one call, but for those between latents: eight projections less the text's two, a feed-forward."""
    width = shape.width
    products = 6 * width**2 + 2 * width * shape.ffn_dim + 2 * TEXT_LENGTH * width
    return 2 * products * shape.num_layers


def pair_flop(shape: WanShape, tokens: int) -> float:
    """Return the FLOP of a query latent and a key latent in one call."""
    return 4 * tokens**2 * shape.width * shape.num_layers


@cache
def seen(span: Span, clip: range) -> int:
    """Return how many (query latent, key latent) pairs dual scope has in a clip."""
    return sum(len(places.keys(query, span, "near").frames) for query in clip)


def fit(few: tuple[int, float], many: tuple[int, float]) -> tuple[float, float]:
    """Return the seconds of a latent and of a pair that explain two dense runs, each (latents, seconds)."""
    (n, seconds), (m, seconds2) = few, many
    pair = (seconds2 / m - seconds / n) / (m - n)
    return seconds / n - n * pair, pair


def of_dense(
    name: str, runs: tuple[tuple[int, float], tuple[int, float]], calls: int, *, gathered: float, memory: float
) -> GPU:
    """Return the GPU that explains two dense runs of 1.3B at 832x480 of so many calls."""
    each, pair = fit(*runs)
    flop = SMALL_TOKENS * token_flop(SMALL), pair_flop(SMALL, SMALL_TOKENS)
    return GPU(name, calls * flop[0] / each, calls * flop[1] / pair, gathered, memory)


# LVSA (arXiv 2605.31057; github.com/JiusiServe/LongVideoSparseAttention, README.md, "latency scaling"): Wan 2.1 1.3B at 832x480 on one
# A100, 50 steps with guidance, the whole run; frames to seconds. Its pattern has as many keys as were trained on.
LVSA_CALLS = 50 * BRANCHES
LVSA_DENSE = {81: 168, 161: 492, 321: 1610, 481: 3369}
LVSA_SPARSE = {81: 194, 161: 347, 321: 700, 481: 1072}
# H100: docs/gpu.md, 2026-11-26: one stock call of 1.3B's net at 21 and 61 latents; dual scope of 14B takes 0.239 s where as many keys at
# hand take 0.104.
H100_DENSE = ((21, 0.643), (61, 3.75))
H100_GATHER = 0.239 - 0.104
H100_MEASURED = 3.09  # seconds of a call of ours, 1.3B, 61 latents: no figure of the GPU comes from it
# RTX 4090: 81 frames of 1.3B at 832x480 take about 4 minutes (github.com/Wan-Video/Wan2.1, README.md), 50 steps with guidance. Attention
# is reckoned at what the card is specified for with sums in float32, 165 TFLOP/s (NVIDIA's Ada architecture, appendix A), and the rest of
# those minutes is the tokens'. Memory has 1,008 GB/s where an H100 has 3,350 and an A100 1,935 (NVIDIA's data sheets): gathering scales with it.
R4090_SECONDS, R4090_PAIR_FLOPS = 240, 165e12
BANDWIDTHS = {"A100": 1935e9, "H100": 3350e9, "RTX 4090": 1008e9}


def a100() -> GPU:
    """Return LVSA's GPU, from its two shortest dense runs."""
    short = tuple((latents_of(frames), float(LVSA_DENSE[frames])) for frames in (81, 161))
    return of_dense("A100 80 GB", short, LVSA_CALLS, gathered=gathering("A100"), memory=80e9)


def h100() -> GPU:
    """Return the H100 that was measured."""
    return of_dense("H100", H100_DENSE, 1, gathered=gathering("H100"), memory=80e9)


def gathering(name: str) -> float:
    """Return the bytes a second that gathering reads: the H100's, scaled by the bandwidth of memory."""
    shape, latents = NETS["Wan 2.2 14B"], range(61)
    read = gathered_bytes(shape, SMALL_TOKENS, seen(Span(len(latents), LOCAL, GLOBAL), latents)) / shape.num_layers
    return read / H100_GATHER * BANDWIDTHS[name] / BANDWIDTHS["H100"]


def rtx4090() -> GPU:
    """Return the card that most people have, from what is published."""
    pairs = LVSA_CALLS * TRAINED**2 * pair_flop(SMALL, SMALL_TOKENS)
    left = R4090_SECONDS - pairs / R4090_PAIR_FLOPS
    flops = LVSA_CALLS * TRAINED * SMALL_TOKENS * token_flop(SMALL) / left
    return GPU("RTX 4090", flops, R4090_PAIR_FLOPS, gathering("RTX 4090"), memory=24e9)


def gathered_bytes(shape: WanShape, tokens: int, pairs: int) -> float:
    """Return the bytes of keys and values that are gathered in one call."""
    return 2 * ITEM * pairs * tokens * shape.width * shape.num_layers


def call_seconds(gpu: GPU, shape: WanShape, tokens: int, latents: int, pairs: int, *, gathers: bool = True) -> float:
    """Return the seconds of a call on a clip with so many pairs; dense attention gathers nothing."""
    compute = latents * tokens * token_flop(shape) / gpu.token_flops + pairs * pair_flop(shape, tokens) / gpu.pair_flops
    return compute + (gathered_bytes(shape, tokens, pairs) / gpu.gathered if gathers else 0.0)


def step_seconds(gpu: GPU, shape: WanShape, tokens: int, frames: int, ranks: int, link: cost_model.Link) -> float:
    """Return the seconds of a step with guidance, whose branches take turns, of the busiest rank; what travels is what takes less."""
    span = Span(latents_of(frames), LOCAL, GLOBAL)
    busiest = max(clips.cut(span.frames, ranks), key=lambda clip: (len(clip), seen(span, clip)))
    found = []
    for keys_values in (False, True):
        layers = exchanges(shape, tokens, keys_values=keys_values)
        arrivals = 0 if keys_values or ranks == 1 else ClipCall(shape, tokens, span, len(busiest), ITEM, 1).arrivals
        compute = call_seconds(gpu, shape, tokens, len(busiest), seen(span, busiest))
        compute += arrivals * layers[0].flop * len(layers) / gpu.token_flops
        sent = 0 if ranks == 1 else max(traffic.sent_bytes(layers, span, ranks, item=ITEM, branches=BRANCHES))
        found.append(cost_model.call_seconds(BRANCHES * compute, sent, len(layers), link, ranks=ranks, turns=True))
    return min(found)


def fits(gpu: GPU, shape: WanShape, tokens: int, frames: int, ranks: int) -> bool:
    """Return whether a rank has room for its clip, one branch after the other, while blocks wait in host memory."""
    span = Span(latents_of(frames), LOCAL, GLOBAL)
    longest = len(clips.cut(span.frames, ranks)[0])
    weights = BLOCKS_AT_ONCE * shape.block_numbers * ITEM
    return weights + ClipCall(shape, tokens, span, longest, ITEM, 1).peak_bytes <= 0.9 * gpu.memory
