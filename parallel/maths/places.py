"""Which frames the tokens of one frame attend to in 3D attention, and at which place each stands for its rotary position.

One query frame is a block of its own: its keys are whole frames, so that no mask is needed, and its places can't depend on where
clips are cut. Local keys keep their true distance. Global ones have their true place as well, or stand in order right outside
the window: true distances beyond the trained length make attention snap back to a sink (LoL, arXiv 2601.16914).
"""

from dataclasses import dataclass
from typing import Literal

from .scope import Span, everywhere, full_window, local_window

Rule = Literal["near", "true"]


@dataclass(frozen=True)
class Keys:
    """The keys of one query frame, ascending by place; `places` count frames from the video's first, and may lie outside it."""

    frames: tuple[int, ...]
    places: tuple[int, ...]
    is_local: tuple[bool, ...]


def keys(query: int, span: Span, rule: Rule) -> Keys:
    """Return what one frame attends to, and where it stands; a frame that is local and global counts once, as local."""
    spread_out = frozenset(everywhere(span))
    window = full_window(query, span, spread_out) if span.full else local_window(query, span)
    local = {place % span.frames for place in window}
    far = sorted(true_place(query, frame, span) for frame in spread_out if frame not in local)
    left, right = [place for place in far if place < window.start], [place for place in far if place >= window.stop]
    frames = tuple(place % span.frames for place in (*left, *window, *right))
    if rule == "near":
        left, right = list(range(window.start - len(left), window.start)), list(range(window.stop, window.stop + len(right)))
    is_local = (False,) * len(left) + (True,) * len(window) + (False,) * len(right)
    return Keys(frames, (*left, *window, *right), is_local)


def true_place(query: int, frame: int, span: Span) -> int:
    """Return where a frame is, seen from another: its number or, with `loop`, the nearest place that it comes round to."""
    if not span.loop:
        return frame
    half = span.frames // 2
    return query + (frame - query + half) % span.frames - half
