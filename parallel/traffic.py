"""What a UNet call sends: exact bytes by rank, from the plan alone, and the closed formula that they follow."""

from dataclasses import dataclass

from .folder import UNetShape
from .maths import clips, scope

MOMENTS = 3 * 4  # bytes a group: count, mean, squares, in float32
INNER_HEADS = 8  # of diffusers' first temporal transformer, whatever the rest has


@dataclass(frozen=True)
class FrameLayer:
    """A layer that exchanges frames: how many numbers a frame sends, and whether moments travel along."""

    kind: str  # "convolution" or "attention"
    numbers: int
    with_moments: bool


def frame_layers(shape: UNetShape, height: int, width: int) -> list[FrameLayer]:
    """Return the exchanges of one UNet call, for latents of a size, in no order."""
    levels = range(len(shape.block_out_channels))
    pixels = [-(-height // 2**level) * -(-width // 2**level) for level in levels]
    channels, depth = shape.block_out_channels, shape.layers_per_block
    first = channels[0] * pixels[0]
    found = _attentions(first, INNER_HEADS * shape.attention_head_dim * pixels[0])
    for level in levels:
        up = shape.up_block_types[len(levels) - 1 - level]
        for kind, layers in ((shape.down_block_types[level], depth), (up, depth + 1)):
            numbers = channels[level] * pixels[level]
            attends = kind.startswith("CrossAttn")
            found += (_convolutions(numbers) + (_attentions(numbers, numbers) if attends else [])) * layers
    middle = channels[-1] * pixels[-1]
    return found + 2 * _convolutions(middle) + _attentions(middle, middle)


def _convolutions(numbers: int) -> list[FrameLayer]:
    return [FrameLayer("convolution", numbers, True)] * 4


def _attentions(raw: int, hidden: int) -> list[FrameLayer]:
    return [FrameLayer("attention", raw, True), FrameLayer("attention", hidden, False)]


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
    return [
        sum(frame in clip for taker, frames in enumerate(wanted) if taker != rank for frame in set(frames))
        for rank, clip in enumerate(cut)
    ]


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
