"""The pack's own socket types: small frozen descriptions. Nothing heavy travels between nodes but IMAGE, LATENT and keyframes' pictures."""

from dataclasses import dataclass

import torch
from comfy_api.latest import io

from ..parallel.job.files import Lora, ModelFiles
from ..parallel.job.job import DType, Frozen, Offload

CATEGORY = "Video Infinity"
AUTO = "auto"  # of a widget that a number may stand in as well
Model = io.Custom("VIDEO_INFINITY_MODEL")
Ranks = io.Custom("VIDEO_INFINITY_RANKS")
Scope = io.Custom("VIDEO_INFINITY_SCOPE")
Keyframes = io.Custom("VIDEO_INFINITY_KEYFRAMES")
Timeline = io.Custom("VIDEO_INFINITY_TIMELINE")
Tuning = io.Custom("VIDEO_INFINITY_TUNING")


class ModelChoice(Frozen):
    """Which model to run, under the names of a Job; nothing of it is loaded in ComfyUI's process."""

    model: str
    parts: str | None = None
    files: ModelFiles = ModelFiles()
    loras: tuple[Lora, ...] = ()
    dtype: DType = "float32"
    offload: Offload = "auto"


class RanksChoice(Frozen):
    """Where to run it."""

    devices: str = "auto"
    threads: int = 0
    keep_warm: bool = True


@dataclass(frozen=True)
class PlacedPictures:
    """Pictures (F, H, W, 3) and where they stand (job/moment.py): frames are counted only when the length of the video is known."""

    pictures: torch.Tensor
    moments: tuple[str, ...]  # one for each, one for all in a row, or `spread`
    strength: float


class TimelineText(Frozen):
    """What is seen when, as text: frames are counted only when the length of the video is known."""

    text: str
    fade: int = 0
    negative: str = ""
