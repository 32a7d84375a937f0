"""The host's side: start ranks, run jobs on them, stop them. What a rank does with a job it does not know."""

from .local import Pool, Video

__all__ = ["Pool", "Video"]
