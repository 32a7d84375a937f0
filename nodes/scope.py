"""Dual-Scope Attention: how far a frame sees."""

from comfy_api.latest import io

from ..parallel.job.errors import JobRefused
from ..parallel.job.job import Scope as ScopeSettings
from ..parallel.job.job import checked
from . import host
from .sockets import CATEGORY, Scope
from .widgets import check_widgets, checks_widgets


def _bias(name: str, default: float, what: str) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=-100.0, max=100.0, step=0.5, tooltip=what)


def _frames(name: str, default: int, what: str, *, least: int = 0, optional: bool = False) -> io.Int.Input:
    return io.Int.Input(name, default=default, min=least, max=4096, optional=optional, tooltip=what)


class DualScopeAttention(io.ComfyNode):
    """Set the scopes of temporal attention (paper sec. 4.2)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        default = ScopeSettings()
        local_early, local_late = default.local_bias
        global_early, global_late = default.global_bias
        return io.Schema(
            node_id="VideoInfinityDualScopeAttention",
            display_name="Dual-Scope Attention",
            category=CATEGORY,
            description="Sets which frames a frame attends to: its neighbours, and frames spread over the whole video. "
            f"The defaults are for models that were trained on {default.model_frames} frames; "
            "the help page has a rule for others, and the paper's biases.",
            search_aliases=["local context", "global frames", "temporal attention", "context window"],
            inputs=[
                _frames("local_context", default.local_context, "Frames on either side that a frame attends to."),
                _frames("global_frames", default.global_frames, "Frames of the whole video that all attend to."),
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
                _frames(
                    "trained_frames",
                    0,
                    "Scale logits by log(keys) / log(this), the number of frames that the model was trained on; 0: do not.",
                ),
                _frames(
                    "model_frames",
                    default.model_frames,
                    "Frames of a clip that the model was trained on. A notice measures the scopes by it; the video stays as it is.",
                    least=1,
                    optional=True,
                ),
            ],
            outputs=[Scope.Output("scope", tooltip="How far a frame sees; for the sampler.")],
        )

    @classmethod
    def validate_inputs(cls, trained_frames: int | None) -> bool | str:
        """Refuse a logarithm that is zero."""
        return trained_frames is None or host.refused(lambda: _check_trained(cls, trained_frames))

    @classmethod
    @checks_widgets
    def execute(
        cls,
        local_context: int,
        global_frames: int,
        local_bias_early: float,
        local_bias_late: float,
        global_bias_early: float,
        global_bias_late: float,
        phase_timestep: int,
        ramp: bool,
        trained_frames: int,
        model_frames: int | None = None,
    ) -> io.NodeOutput:
        _check_trained(cls, trained_frames)
        said = {} if model_frames is None else {"model_frames": model_frames}
        scope = checked(
            ScopeSettings,
            local_context=local_context,
            global_frames=global_frames,
            local_bias=(local_bias_early, local_bias_late),
            global_bias=(global_bias_early, global_bias_late),
            phase_timestep=phase_timestep,
            ramp=ramp,
            trained_frames=trained_frames or None,
            **said,
        )
        return io.NodeOutput(scope)


def _check_trained(node: type[io.ComfyNode], trained_frames: int) -> None:
    check_widgets(node, {"trained_frames": trained_frames})
    if trained_frames == 1:
        raise JobRefused("trained_frames: wanted 0, or 2 and more, got 1")
