"""What a UNet call sends: exact bytes by rank, from the plan alone, and the closed formula that they follow."""

from bisect import bisect_right
from dataclasses import dataclass

from ..maths import clips, scope
from .folder import UNetShape

MOMENTS = 3 * 4  # bytes a group: count, mean, squares, in float32
INNER_HEADS = 8  # of diffusers' first temporal transformer, whatever the rest has


@dataclass(frozen=True)
class FrameLayer:
    """A layer that exchanges frames: how many numbers a frame sends, whether moments travel along, and what a taker then does."""

    kind: str  # "convolution" or "attention"
    numbers: int
    with_moments: bool
    flop: int = 0  # to make keys and values of one frame that came


def frame_layers(shape: UNetShape, height: int, width: int) -> list[FrameLayer]:
    """Return the exchanges of one UNet call, for latents of a size, in no order."""
    levels = range(len(shape.block_out_channels))
    pixels = [-(-height // 2**level) * -(-width // 2**level) for level in levels]
    channels, depth = shape.block_out_channels, shape.layers_per_block
    found = _attentions(channels[0], INNER_HEADS * shape.attention_head_dim, pixels[0])
    for level in levels:
        up = shape.up_block_types[len(levels) - 1 - level]
        for kind, layers in ((shape.down_block_types[level], depth), (up, depth + 1)):
            size, attends = (channels[level], pixels[level]), kind.startswith("CrossAttn")
            found += (_convolutions(*size) + (_attentions(channels[level], *size) if attends else [])) * layers
    middle = channels[-1], pixels[-1]
    return found + 2 * _convolutions(*middle) + _attentions(channels[-1], *middle)


def _convolutions(width: int, pixels: int) -> list[FrameLayer]:
    return [FrameLayer("convolution", width * pixels, True)] * 4


def _attentions(raw: int, hidden: int, pixels: int) -> list[FrameLayer]:
    keys_values, entry = 4 * hidden * hidden * pixels, 2 * raw * hidden * pixels
    return [
        FrameLayer("attention", raw * pixels, True, entry + keys_values),
        FrameLayer("attention", hidden * pixels, False, keys_values),
    ]


def sent_bytes(
    layers: list[FrameLayer], span: scope.Span, ranks: int, *, item: int, groups: int = 32, branches: int = 1
) -> list[int]:
    """Return the bytes that each rank sends in one UNet call."""
    cut = clips.cut(span.frames, ranks)
    near = [scope.window(clip, 1, span.frames, span.loop) for clip in cut]
    far = [scope.keys(clip, span) for clip in cut]
    counts = {"convolution": _sent_frames(cut, near), "attention": _sent_frames(cut, far)}
    total = []
    for rank in range(ranks):
        frames = sum(layer.numbers * counts[layer.kind][rank] for layer in layers)
        moments = sum(layer.with_moments for layer in layers) * groups * MOMENTS * (ranks - 1)
        total.append(branches * (item * frames + moments))
    return total


def _sent_frames(cut: tuple[range, ...], wanted: list[tuple[int, ...]]) -> list[int]:
    """Return how many frames each rank sends, all takers together."""
    starts, sent = [clip.start for clip in cut], [0] * len(cut)
    for taker, frames in enumerate(wanted):
        for frame in set(frames):
            owner = bisect_right(starts, frame) - 1
            sent[owner] += owner != taker
    return sent


def formula_bytes(layers: list[FrameLayer], span: scope.Span, ranks: int, *, item: int, branches: int = 1) -> float:
    """Return e [A (p n + g (W - 1) / W) + C n] for a rank with two neighbours: numbers of attentions A and convolutions C,

    p frames of local context from each of n neighbours, g global frames, W ranks, e bytes a number. Keys and values instead of
    hidden states would take 2 A. What each rank gets; with p and g small beside a clip also what it sends.
    """
    attentions, convolutions = (
        sum(layer.numbers for layer in layers if layer.kind == kind) for kind in ("attention", "convolution")
    )
    neighbours = min(2, ranks - 1)
    far = span.local_context * neighbours + span.global_frames * (ranks - 1) / ranks
    return branches * item * (attentions * far + convolutions * neighbours)
