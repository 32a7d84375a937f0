"""T frames -> N clips of consecutive frames (paper sec. 4.1)."""

from itertools import pairwise


def before(clip: range, reach: int, *, first: int = 0) -> range:
    """Return those of the `reach` latents before a clip that are there, from number `first` on."""
    return range(max(first, clip.start - reach), clip.start)


def cut(frames: int, ranks: int) -> tuple[range, ...]:
    """Return one range of frame numbers a rank; lengths differ by at most 1, the longer ones first.

    Raises ValueError if a rank would get no frame.
    """
    if ranks > frames:
        raise ValueError(f"cannot cut {frames} frames into {ranks} clips: use at most {frames} ranks")
    length, longer = divmod(frames, ranks)
    starts = [rank * length + min(rank, longer) for rank in range(ranks + 1)]
    return tuple(range(start, stop) for start, stop in pairwise(starts))
