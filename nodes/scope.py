"""Dual-Scope Attention: how far a frame sees."""

from typing import get_args

from comfy_api.latest import io

from ..parallel.job.errors import JobRefused
from ..parallel.job.job import Places, checked
from ..parallel.job.job import Scope as ScopeSettings
from . import host
from .sockets import AUTO, CATEGORY, Scope
from .widgets import check_widgets, checks_widgets, count_or_auto_input, read_count

Count = int | str  # of frames: a number, or `auto`


def _bias(name: str, default: float, what: str) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=-100.0, max=100.0, step=0.5, tooltip=what)


def _transformer_inputs(default: ScopeSettings) -> list[io.Input]:
    return [
        io.Combo.Input(
            "places",
            options=list(get_args(Places)),
            default=default.places,
            optional=True,
            tooltip="Of 3D attention, as of Wan: where global frames stand to a frame, right outside its window (near), or at "
            "their true distance.",
        ),
        io.Boolean.Input(
            "rotate",
            default=default.rotate,
            optional=True,
            tooltip="Of 3D attention: all global frames but the first move on with each step.",
        ),
        io.Boolean.Input(
            "full_windows",
            default=default.full_windows,
            optional=True,
            tooltip="Of 3D attention: at the ends of the video, and around a global frame, a window grows until a frame attends to as "
            "many frames as any other.",
        ),
    ]


class DualScopeAttention(io.ComfyNode):
    """Set the scopes of attention over frames (paper sec. 4.2)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        default = ScopeSettings()
        local_early, local_late = default.local_bias
        global_early, global_late = default.global_bias
        return io.Schema(
            node_id="VideoInfinityDualScopeAttention",
            display_name="Dual-Scope Attention",
            category=CATEGORY,
            description="Sets which frames a frame attends to: its neighbours, and frames spread over the whole video. `auto` is what "
            "suits the model; the help page has the rule, and the paper's biases.",
            search_aliases=["local context", "global frames", "temporal attention", "context window"],
            inputs=[
                count_or_auto_input(
                    "local_context", "Frames on either side that a frame attends to; `auto`: what suits the model."
                ),
                count_or_auto_input(
                    "global_frames", "Frames of the whole video that all attend to; `auto`: what suits the model."
                ),
                _bias("local_bias_early", local_early, "Added to the logits of local keys in the early steps."),
                _bias("local_bias_late", local_late, "Added to the logits of local keys in the late steps; the paper: 10."),
                _bias(
                    "global_bias_early", global_early, "Added to the logits of global keys in the early steps; the paper: 10."
                ),
                _bias("global_bias_late", global_late, "Added to the logits of global keys in the late steps."),
                io.Int.Input(
                    "phase_timestep",
                    default=default.phase_timestep,
                    min=0,
                    max=1000,
                    tooltip="Timesteps above it are early.",
                ),
                io.Boolean.Input(
                    "ramp",
                    default=default.ramp,
                    tooltip="Go from early to late evenly over the steps, not at once at a timestep.",
                ),
                io.Int.Input(
                    "trained_frames",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="Scale logits by log(keys) / log(this), the number of frames that the model was trained on; 0: do not.",
                ),
                count_or_auto_input(
                    "model_frames",
                    "Frames of a clip that the model was trained on; `auto`: what is known of it. A notice measures the scopes by it; the "
                    "video stays as it is.",
                    optional=True,
                ),
                *_transformer_inputs(default),
            ],
            outputs=[Scope.Output("scope", tooltip="How far a frame sees; for the sampler.")],
        )

    @classmethod
    def validate_inputs(
        cls,
        local_context: Count | None,
        global_frames: Count | None,
        trained_frames: int | None,
        model_frames: Count | None = AUTO,
    ) -> bool | str:
        """Refuse what is no number of frames, and a logarithm that is zero; None comes over a link, and is seen at the run."""
        counts = {"local_context": local_context, "global_frames": global_frames, "model_frames": model_frames}
        typed = {name: value for name, value in counts.items() if value is not None}
        return host.refused(lambda: _check(cls, typed, trained_frames))

    @classmethod
    @checks_widgets
    def execute(
        cls,
        local_context: Count,
        global_frames: Count,
        local_bias_early: float,
        local_bias_late: float,
        global_bias_early: float,
        global_bias_late: float,
        phase_timestep: int,
        ramp: bool,
        trained_frames: int,
        model_frames: Count = AUTO,
        **of_transformers,
    ) -> io.NodeOutput:
        counts = {"local_context": local_context, "global_frames": global_frames, "model_frames": model_frames}
        scope = checked(
            ScopeSettings,
            **_check(cls, counts, trained_frames),
            local_bias=(local_bias_early, local_bias_late),
            global_bias=(global_bias_early, global_bias_late),
            phase_timestep=phase_timestep,
            ramp=ramp,
            trained_frames=trained_frames or None,
            **of_transformers,
        )
        return io.NodeOutput(scope)


def _check(node: type[io.ComfyNode], counts: dict[str, Count], trained_frames: int | None) -> dict[str, int | None]:
    """Return the numbers of frames that widgets hold, None for `auto`; raise JobRefused for the first that can't be."""
    found = {name: read_count(name, value, least=int(name == "model_frames")) for name, value in counts.items()}
    if trained_frames is not None:
        check_widgets(node, {"trained_frames": trained_frames})
    if trained_frames == 1:
        raise JobRefused("trained_frames: wanted 0, or 2 and more, got 1")
    return found
