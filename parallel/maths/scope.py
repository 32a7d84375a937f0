"""Which frames a frame sees: the dual-scope plan as integers (paper sec. 4.2).

Frame i sees its local scope, the frames within `local_context` of it, and the global scope, frames spread evenly over the
video; frames that were given as images are always among them. A frame in both counts once, as local. At the ends of the video
there are fewer neighbours, not fake ones; with `loop` the distance is taken modulo the number of frames. Everything is defined by
frame numbers of the whole video, so no cut into clips changes what a frame sees.
"""

from dataclasses import dataclass, replace

import torch

UNSEEN, LOCAL, GLOBAL = 0, 1, 2


@dataclass(frozen=True)
class Span:
    """How far a frame sees, in a video of `frames` frames."""

    frames: int
    local_context: int
    global_frames: int
    loop: bool = False
    shift: int = 0  # by how many frames all global ones but the first have moved on
    pinned: tuple[int, ...] = ()  # frames that are global wherever the others are: those that were given as images
    full: bool = False  # a window grows where an end or a global frame takes something of it: all frames have as many keys


@dataclass(frozen=True)
class QueryBlock:
    """Consecutive queries that share one list of keys: frame numbers of the whole video."""

    queries: range
    keys: tuple[int, ...]
    kinds_QK: torch.Tensor  # int8: UNSEEN, LOCAL or GLOBAL


def at_step(span: Span, step: int) -> Span:
    """Return a span whose global frames have moved on, but for the first, by a frame a step (LVSA, arXiv 2605.31057)."""
    return replace(span, shift=step % max(1, span.frames))


def spread(frames: int, count: int, shift: int = 0) -> tuple[int, ...]:
    """Return the global frames, ascending and without repeats: `round(linspace(0, frames - 1, count))`.

    With a shift all but frame 0 move on by so many frames, past the end to the beginning (LVSA, arXiv 2605.31057).
    """
    first, *others = torch.linspace(0, frames - 1, count, dtype=torch.float64).round().long().tolist() or [None]
    return () if first is None else tuple(sorted({first, *((place + shift) % frames for place in others)}))


def everywhere(span: Span) -> tuple[int, ...]:
    """Return the frames that all see, ascending: those that are pinned and, of as many as the span says, the rest spread evenly."""
    pinned = {frame for frame in span.pinned if frame < span.frames}
    left = span.global_frames - len(pinned - {0})
    return tuple(sorted({*spread(span.frames, max(left, min(1, span.global_frames)), span.shift), *pinned}))


def window(clip: range, reach: int, frames: int, loop: bool) -> tuple[int, ...]:
    """Return the frames within `reach` of any frame of a clip, each once, from the leftmost on."""
    if loop:
        length = min(frames, len(clip) + 2 * reach)
        return tuple((clip.start - reach + i) % frames for i in range(length))
    return tuple(range(max(0, clip.start - reach), min(frames, clip.stop + reach)))


def inside(frames: range, span: Span) -> list[int]:
    """Return the numbers of those frames that the video has: with `loop` all of them, modulo its length."""
    if span.loop:
        return [frame % span.frames for frame in frames]
    return [frame for frame in frames if 0 <= frame < span.frames]


def beside(clip: range, reach: int, span: Span) -> tuple[list[int], list[int]]:
    """Return the frames within `reach` to the left of a clip, and those to the right; at an end of the video there are fewer."""
    return inside(range(clip.start - reach, clip.start), span), inside(range(clip.stop, clip.stop + reach), span)


def keys(clip: range, span: Span) -> tuple[int, ...]:
    """Return the frames that a clip's queries need, ascending, its own included."""
    spread_out = frozenset(everywhere(span))
    if span.full:
        windows = [full_window(query, span, spread_out) for query in clip]
        together = range(min(each.start for each in windows), max(each.stop for each in windows))  # each holds its own query
        near = {place % span.frames for place in together}
    else:
        near = set(window(clip, span.local_context, span.frames, span.loop))
    return tuple(sorted({*near, *spread_out}))


def full_window(query: int, span: Span, spread_out: frozenset[int]) -> range:
    """Return the places (modulo the length they are frames) of a frame's local scope, as wide as `full` wants it.

    It grows by a frame on the shorter side that has one, until the frame has as many keys as one far from the ends and from
    global frames, which are `spread_out` (LVSA, arXiv 2605.31057).
    """
    near = local_window(query, span)
    most = min(span.frames, 2 * span.local_context + 1 + len(spread_out))
    twice = sum(place % span.frames in spread_out for place in near)  # near and global: a key once
    lacking = most - (len(near) + len(spread_out) - twice)
    while lacking:
        has_left, has_right = span.loop or near.start > 0, span.loop or near.stop < span.frames
        goes_left = has_left and (not has_right or query - near.start <= near.stop - 1 - query)
        added = near.start - 1 if goes_left else near.stop
        near = range(min(added, near.start), max(added + 1, near.stop))
        lacking -= added % span.frames not in spread_out
    return near


def local_window(query: int, span: Span) -> range:
    """Return the places of a frame's local scope, cut off at the ends; with `loop` no frame comes twice."""
    start, stop = query - span.local_context, query + span.local_context + 1
    if not span.loop:
        return range(max(0, start), min(span.frames, stop))
    if stop - start < span.frames:
        return range(start, stop)
    start = query - (span.frames - 1) // 2
    return range(start, start + span.frames)


def kinds(queries: range, key_frames: tuple[int, ...], span: Span) -> torch.Tensor:
    """Return what each key is to each query: int8 (Q, K)."""
    key = torch.tensor(key_frames)
    apart = (torch.tensor(list(queries))[:, None] - key[None, :]).abs()
    if span.loop:
        apart = torch.minimum(apart, span.frames - apart)
    is_global = torch.isin(key, torch.tensor(everywhere(span), dtype=torch.long))
    seen = torch.where(is_global, GLOBAL, UNSEEN).expand_as(apart)
    return torch.where(apart <= span.local_context, LOCAL, seen).to(torch.int8)


def query_blocks(clip: range, span: Span, length: int) -> tuple[QueryBlock, ...]:
    """Cut a clip's queries into blocks of at most `length` frames, each with the keys that it needs and no others."""
    found = []
    for start in range(clip.start, clip.stop, length):
        queries = range(start, min(start + length, clip.stop))
        needed = keys(queries, span)
        found.append(QueryBlock(queries, needed, kinds(queries, needed, span)))
    return tuple(found)


def block_length(span: Span) -> int:
    """Return how many queries to take at once: long blocks waste masked keys, short ones repeat the shared ones."""
    if 2 * span.local_context + 1 >= span.frames:
        return span.frames
    return max(8, span.local_context + len(everywhere(span)) // 2)


def phase_bias(pair: tuple[float, float], *, timestep: float, done: float, parting: int, ramp: bool) -> float:
    """Return the bias of a step from its (early, late) pair.

    The paper switches at a timestep (`timestep > parting` is early). Unlike the paper, `ramp` goes from early to late with
    the share of the schedule that is done (`done` in [0, 1]), which also suits schedules without DDPM timesteps.
    """
    early, late = pair
    if ramp:
        return early + (late - early) * done
    return early if timestep > parting else late
