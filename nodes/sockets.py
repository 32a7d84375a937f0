"""The pack's own socket types: small frozen descriptions. Nothing heavy travels between nodes but IMAGE and LATENT."""

from comfy_api.latest import io

from ..parallel.job.job import DType, Frozen, Offload

CATEGORY = "Video Infinity"
AUTO = "auto"  # of a widget that a number may stand in as well
Model = io.Custom("VIDEO_INFINITY_MODEL")
Ranks = io.Custom("VIDEO_INFINITY_RANKS")
Scope = io.Custom("VIDEO_INFINITY_SCOPE")
Timeline = io.Custom("VIDEO_INFINITY_TIMELINE")
Tuning = io.Custom("VIDEO_INFINITY_TUNING")


class ModelChoice(Frozen):
    """Which model to run, under the names of a Job; nothing of it is loaded in ComfyUI's process."""

    model: str
    parts: str | None = None
    dtype: DType = "float32"
    offload: Offload = "none"


class RanksChoice(Frozen):
    """Where to run it."""

    devices: str = "auto"
    threads: int = 0
    keep_warm: bool = True


class TimelineText(Frozen):
    """What is seen when, as text: frames are counted only when the length of the video is known."""

    text: str
    fade: int = 0
    negative: str = ""
