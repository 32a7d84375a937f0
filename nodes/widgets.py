"""Widgets that several nodes share, and the Job that they add up to."""

from comfy_api.latest import io

from ..parallel import timeline
from ..parallel.folder import SCHEDULERS
from ..parallel.protocol import Job, Prompt, Scope, Tuning, checked
from .sockets import ModelChoice, Ranks, TimelineText
from .sockets import Scope as ScopeSocket
from .sockets import Tuning as TuningSocket


def size_inputs() -> list[io.Input]:
    """Return the widgets of a video's size."""
    return [
        io.Int.Input("width", default=64, min=8, max=8192, step=8, tooltip="Pixels. Use what the model was trained on."),
        io.Int.Input("height", default=64, min=8, max=8192, step=8, tooltip="Pixels. Use what the model was trained on."),
        io.Int.Input(
            "frames", default=96, min=1, max=100_000, tooltip="Frames of the whole video; cost grows in line with it."
        ),
    ]


def length_inputs() -> list[io.Input]:
    """Return the widgets of what time and steps mean."""
    return [
        io.Float.Input(
            "fps", default=8.0, min=1.0, max=120.0, step=0.5, tooltip="Frames a second: counts a timeline's seconds."
        ),
        io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Denoising steps."),
    ]


def sampling_inputs() -> list[io.Input]:
    """Return the widgets of sampling."""
    return [
        *length_inputs(),
        io.Float.Input("cfg", default=3.0, min=0.0, max=100.0, step=0.5, tooltip="How strictly the prompt is followed."),
        io.Combo.Input(
            "scheduler", options=["model", *SCHEDULERS], default="model", tooltip="The sampler; `model` is the model's own."
        ),
        seed_input(),
        io.Boolean.Input("loop", default=False, tooltip="Let the last frame lead into the first, without a seam."),
    ]


def ranks_input() -> io.Input:
    """Return the socket for Worker Ranks."""
    tip = "From Worker Ranks; left open: every GPU, else two CPU ranks."
    return Ranks.Input("ranks", optional=True, tooltip=tip)


def scope_input() -> io.Input:
    """Return the socket for Dual-Scope Attention."""
    scope = Scope()
    tip = f"From Dual-Scope Attention; left open: {scope.local_context} frames each side, {scope.global_frames} global."
    return ScopeSocket.Input("scope", optional=True, tooltip=tip)


def tuning_input() -> io.Input:
    """Return the socket for Speed and Memory."""
    tip = "From Speed and Memory; left open: what fits the devices, exact."
    return TuningSocket.Input("tuning", optional=True, tooltip=tip)


def seed_input() -> io.Input:
    """Return the seed's widget."""
    tip = "The same seed makes the same video, on any number of ranks."
    return io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=True, tooltip=tip)


def build_job(
    model: ModelChoice,
    told: TimelineText,
    scope: Scope | None,
    tuning: Tuning | None = None,
    *,
    frames: int,
    fps: float,
    steps: int,
    cfg: float,
    **rest,
) -> Job:
    """Return the Job of a sampler's inputs; raise JobRefused, which names the timeline's line or the value that is wrong."""
    prompts = timeline.parse(told.text, fps=fps, frames=frames)
    return checked(
        Job,
        **dict(model),
        prompts=prompts,
        fade=told.fade,
        negative=told.negative,
        frames=frames,
        fps=fps,
        num_inference_steps=steps,
        guidance_scale=cfg,
        scope=scope or Scope(),
        tuning=tuning or Tuning(),
        **rest,
    )


def still_job(model: ModelChoice, *, frames: int, height: int, width: int, decode: bool) -> Job:
    """Return a Job that samples nothing: it only encodes, or only decodes, its init."""
    silence = (Prompt(frame=0, text=""),)
    return checked(
        Job,
        **dict(model),
        prompts=silence,
        frames=frames,
        height=height,
        width=width,
        num_inference_steps=0,
        guidance_scale=1.0,
        decode=decode,
    )
