"""What a Wan's folder says beside its parts: the pipeline's index, and what its net was trained on."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..job.job import Frozen
from . import parts
from .wan_shape import WanShape

INDEX = "model_index.json"
Pixels = Annotated[int, Field(ge=8, le=8192)]


class Pipeline(Frozen):
    """What a model's index says beside its parts."""

    boundary_ratio: float | None = Field(None, ge=0, le=1)
    expand_timesteps: bool = Field(False, description="a time for each frame: of TI2V-5B")


class Training(Frozen):
    """What a net was trained on, and what therefore suits it: by default Wan 2.1 and A14B."""

    trained_frames: int = Field(81, ge=1, le=10_000)
    fps: float = Field(16.0, gt=0, le=240, allow_inf_nan=False)
    guidance_scale: float = Field(5.0, ge=0, le=100, allow_inf_nan=False)  # the default of diffusers' own pipeline
    size: tuple[Pixels, Pixels] | None = None  # height and width in pixels
    usual_sizes: tuple[str, ...] = ("832x480", "1280x720")  # width x height


FROM_TEXT, FROM_IMAGES = 0.875, 0.9  # of A14B: the share of the noise below which the second net is at work
TIMED_CHANNELS = 48  # of the latents of TI2V-5B alone
TIMED = Training(trained_frames=121, fps=24.0, usual_sizes=("1280x704",))  # of TI2V-5B


def known_of_files(shape: WanShape, *, two_nets: bool) -> tuple[Pipeline, Training]:
    """Return what is known of the released nets of a shape: their files do not say it."""
    timed = shape.out_channels == TIMED_CHANNELS
    boundary = FROM_IMAGES if shape.condition_channels else FROM_TEXT
    pipeline = Pipeline(boundary_ratio=boundary if two_nets else None, expand_timesteps=timed)
    return pipeline, TIMED if timed else Training()


def read_pipeline(root: Path) -> Pipeline:
    """Return what a model's index says; a folder of a net alone has none."""
    return parts.read_known(root / INDEX, Pipeline())


def read_training(root: Path, pipeline: Pipeline) -> Training:
    """Return what a model was trained on: what its folder says, else what is known of its kind."""
    return parts.read_known(root / parts.TRAINING, TIMED if pipeline.expand_timesteps else Training())
