"""Where in a video something stands, as people write it: a frame, seconds, or `last`."""

import re

MOMENT = r"last|\d{1,9}|\d{1,9}(?:\.\d{1,9})?s"


def is_moment(text: str) -> bool:
    """Return whether a text is `FRAME`, `SECONDSs` or `last`."""
    return re.fullmatch(MOMENT, text) is not None


def first_frame(moment: str, count: int, *, frames: int, fps: float) -> int:
    """Return the frame at which so many consecutive pictures begin, of a video of `frames` frames; with `last` they end with it."""
    if moment == "last":
        return max(0, frames - count)
    return round(float(moment[:-1]) * fps) if moment.endswith("s") else int(moment)
