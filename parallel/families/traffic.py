"""What one call of a net sends, from its exchanges and the cut alone: exact bytes by rank, and the closed formula that they follow."""

from bisect import bisect_right

from ..maths import clips, scope
from .frame_layer import FrameLayer

MOMENTS = 3 * 4  # bytes a group: count, mean, squares, in float32


def sent_bytes(
    layers: list[FrameLayer], span: scope.Span, ranks: int, *, item: int, groups: int = 32, branches: int = 1
) -> list[int]:
    """Return the bytes that each rank sends in one call, for latents that see as far as `span` says."""
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


def context_bytes(latents: int, ranks: int, *, reach: int, bytes_each: int) -> list[int]:
    """Return the bytes that each rank sends once, before frames are decoded: others' latents depend on `reach` before them.

    A latent has `bytes_each`. With `loop` no more: a causal VAE begins with the video.
    """
    cut = clips.cut(latents, ranks)
    context = [tuple(clips.before(clip, reach)) for clip in cut]
    return [frames * bytes_each for frames in _sent_frames(cut, context)]


def formula_bytes(layers: list[FrameLayer], span: scope.Span, ranks: int, *, item: int, branches: int = 1) -> float:
    """Return the bytes that a rank with two neighbours gets in one call: e [A (p n + g (W - 1) / W) + C n].

    A and C are the numbers of a frame in all attentions and in all convolutions, p the frames of local context from each of n
    neighbours, g global frames, W ranks, e bytes a number. With p and g small beside a clip it is also what the rank sends. Keys
    and values instead of hidden states would take 2 A. Only the benchmarks use it, to see what the bytes grow with.
    """
    attentions, convolutions = (
        sum(layer.numbers for layer in layers if layer.kind == kind) for kind in ("attention", "convolution")
    )
    neighbours = min(2, ranks - 1)
    far = span.local_context * neighbours + span.global_frames * (ranks - 1) / ranks
    return branches * item * (attentions * far + convolutions * neighbours)
