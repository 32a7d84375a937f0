"""Start ranks, run jobs on them, stop them; sees none of the engine."""

from .local import Pool, Video

__all__ = ["Pool", "Video"]
