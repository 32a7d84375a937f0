"""Widgets that several nodes share, what fits them, and the Job that they add up to."""

import functools
import math
from collections.abc import Callable
from typing import get_args

from comfy_api.latest import io

from ..parallel.families import folder
from ..parallel.families.table import ModelFolder
from ..parallel.job import timeline
from ..parallel.job.errors import JobRefused
from ..parallel.job.job import Job, Prompt, Scheduler, Scope, Tuning, checked
from .sockets import AUTO, ModelChoice, Ranks, TimelineText
from .sockets import Keyframes as KeyframesSocket
from .sockets import Scope as ScopeSocket
from .sockets import Tuning as TuningSocket

MOST = 4096  # frames of a scope


def size_inputs(*, has_start: bool = False) -> list[io.Input]:
    """Return the widgets of a video's size; with `has_start` 0 means that of the node's `latent` or `image`."""
    first = "that of latent or image, else " if has_start else ""
    pixels = f"Pixels; 0: {first}the model's own. Use what the model was trained on."
    frames = "Frames of the whole video, any number; cost grows in line with it." + " 0: those of latent or image." * has_start
    return [
        io.Int.Input("width", default=0, min=0, max=8192, step=8, tooltip=pixels),
        io.Int.Input("height", default=0, min=0, max=8192, step=8, tooltip=pixels),
        io.Int.Input("frames", default=96, min=0 if has_start else 1, max=100_000, tooltip=frames),
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
        scheduler_input(),
        seed_input(),
        io.Boolean.Input("loop", default=False, tooltip="Let the last frame lead into the first, without a seam."),
    ]


def scheduler_input(*, optional: bool = False) -> io.Input:
    """Return the widget of the scheduler."""
    tip = "The sampler; `model` is the model's own."
    return io.Combo.Input("scheduler", options=list(get_args(Scheduler)), default="model", optional=optional, tooltip=tip)


def two_net_inputs() -> list[io.Input]:
    """Return the widgets of flow-matching models, one net or two; they came later, and so are optional."""
    second = "cfg of a model's second net, the one for low noise, as of Wan 2.2 14B; 0: the same as cfg."
    shift = "Of flow-matching models such as Wan: higher spends more of the steps at high noise; 0: the model's own."
    return [
        io.Float.Input("cfg_low_noise", default=0.0, min=0.0, max=100.0, step=0.5, optional=True, tooltip=second),
        io.Float.Input("shift", default=0.0, min=0.0, max=100.0, step=0.5, optional=True, tooltip=shift),
    ]


def count_or_auto_input(name: str, what: str, *, optional: bool = False) -> io.Input:
    """Return a widget for a number of frames or `auto`.

    It is one of text, as `devices` is, and takes whole numbers as well: over a link, and out of workflows that were saved when
    it was one of numbers.
    """
    return io.MultiType.Input(io.String.Input(name, default=AUTO, optional=optional, tooltip=what), [io.Int])


def read_count(name: str, value: object, *, least: int = 0) -> int | None:
    """Return the number that such a widget holds, None for `auto`; raise JobRefused, which names the widget."""
    text = str(value).strip().lower()
    if text == AUTO:
        return None
    if not isinstance(value, (int, str)) or not text.isascii() or not text.isdigit() or not least <= int(text[:9]) <= MOST:
        raise JobRefused(f"{name}: wanted {AUTO} or a whole number from {least} to {MOST}, got {value!r:.80}")
    return int(text)


def ranks_input() -> io.Input:
    """Return the socket for Worker Ranks."""
    tip = "From Worker Ranks; left open: every GPU, else two CPU ranks."
    return Ranks.Input("ranks", optional=True, tooltip=tip)


def scope_input() -> io.Input:
    """Return the socket for Dual-Scope Attention."""
    tip = "From Dual-Scope Attention; left open: what suits the model."
    return ScopeSocket.Input("scope", optional=True, tooltip=tip)


def tuning_input() -> io.Input:
    """Return the socket for Speed and Memory."""
    tip = "From Speed and Memory; left open: what fits the devices, exact."
    return TuningSocket.Input("tuning", optional=True, tooltip=tip)


def keyframes_input() -> io.Input:
    """Return the socket for Keyframes."""
    tip = "From Keyframes; left open: no picture is given."
    return KeyframesSocket.Input("keyframes", optional=True, tooltip=tip)


def seed_input() -> io.Input:
    """Return the seed's widget."""
    tip = "The same seed makes the same video, on any number of ranks."
    return io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=True, tooltip=tip)


def check_widgets(node: type[io.ComfyNode], values: dict[str, object]) -> None:
    """Raise JobRefused, with the widget's name, unless each value fits its widget; other inputs are passed over.

    ComfyUI checks what is typed into a widget, but not what comes over a link.
    """
    for widget in node.define_schema().inputs:
        if widget.id in values and isinstance(widget, io.WidgetInput):
            _check_widget(widget, values[widget.id])


def _check_widget(widget: io.WidgetInput, value: object) -> None:
    kinds = {
        io.Int.Input: "a whole number",
        io.Float.Input: "a number",
        io.String.Input: "text",
        io.Boolean.Input: "true or false",
    }
    types = {io.Int.Input: int, io.Float.Input: (int, float), io.String.Input: str, io.Boolean.Input: bool}
    kind = type(widget)
    if kind is io.Combo.Input:
        wanted = None if value in widget.options else f"one of {', '.join(map(str, widget.options))}"
    elif not isinstance(value, types[kind]) or (isinstance(value, bool) and kind is not io.Boolean.Input):
        wanted = kinds[kind]
    elif isinstance(value, float) and not math.isfinite(value):
        wanted = "a finite number"
    else:
        wanted = _wanted_range(getattr(widget, "min", None), getattr(widget, "max", None), value)
    if wanted is not None:
        raise JobRefused(f"{widget.id}: wanted {wanted}, got {value!r:.80}")


def _wanted_range(least, most, value) -> str | None:
    if least is not None and value < least:
        return f"at least {least}"
    return f"at most {most}" if most is not None and value > most else None


def checks_widgets(execute: Callable) -> Callable:
    """Let a node's `execute` see nothing that does not fit its widgets."""

    @functools.wraps(execute)
    def checked_execute(cls, **inputs):
        check_widgets(cls, inputs)
        return execute(cls, **inputs)

    return checked_execute


def fill_sizes(
    model: ModelFolder, start: tuple[int, int, int] | None = None, *, width: int, height: int, frames: int
) -> dict[str, int]:
    """Return width, height and frames; 0 stands for those of `start` (frames, height, width), else for the model's own."""
    if frames == 0 and start is None:
        raise JobRefused("frames: 0 takes those of latent or image, and neither is connected: say how many")
    if 0 in (width, height) and start is None and model.own_size is None:
        name = "width" if width == 0 else "height"
        usual = f"; usual is {' or '.join(model.usual_sizes)}" if model.usual_sizes else ""
        raise JobRefused(f"{name}: 0 takes the model's own, and its configuration names none: say how many pixels{usual}")
    own_frames, own_height, own_width = start or (frames, *(model.own_size or (height, width)))
    return {"width": width or own_width, "height": height or own_height, "frames": frames or own_frames}


def build_job(
    model: ModelChoice,
    timeline_text: TimelineText,
    scope: Scope | None,
    tuning: Tuning | None = None,
    *,
    frames: int,
    fps: float,
    steps: int,
    cfg: float,
    cfg_low_noise: float = 0.0,
    shift: float = 0.0,
    **rest,
) -> Job:
    """Return the Job of a sampler's inputs; raise JobRefused, which names the timeline's line or the value that is wrong."""
    prompts = timeline.parse(timeline_text.text, fps=fps, frames=frames)
    return checked(
        Job,
        **dict(model),
        prompts=prompts,
        fade=timeline_text.fade,
        negative=timeline_text.negative,
        frames=frames,
        fps=fps,
        num_inference_steps=steps,
        guidance_scale=cfg,
        guidance_scale_2=cfg_low_noise or None,
        shift=shift or None,
        scope=scope or Scope(),
        tuning=tuning or Tuning(),
        **rest,
    )


def still_job(model: ModelChoice, parts: ModelFolder, name: str, *, frames: int, height: int, width: int, decode: bool) -> Job:
    """Return a Job that samples nothing: it only encodes, or only decodes, what came by an input; refusals name that."""
    no_prompt = (Prompt(frame=0, text=""),)
    try:
        job = checked(
            Job,
            **dict(model),
            prompts=no_prompt,
            frames=frames,
            height=height,
            width=width,
            num_inference_steps=0,
            guidance_scale=1.0,
            decode=decode,
        )
        folder.check(job, 1, parts)
    except JobRefused as error:
        raise JobRefused(f"{name}: {error}") from None
    return job
