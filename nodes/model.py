"""Load Video Model: which model folder to run, as a description."""

from comfy_api.latest import io

from ..parallel.families import folder
from ..parallel.families.table import ModelFolder
from ..parallel.job.errors import JobRefused
from ..parallel.job.job import checked
from . import host
from .sockets import CATEGORY, Model, ModelChoice
from .widgets import checks_widgets

SAME = "the same folder"


class LoadVideoModel(io.ComfyNode):
    """Choose a model folder. Nothing is loaded here: each rank loads it for itself."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = list(host.model_folders())
        return io.Schema(
            node_id="VideoInfinityLoadVideoModel",
            display_name="Load Video Model",
            category=CATEGORY,
            description="Chooses a diffusers text-to-video model from models/diffusers, or one of the small ones that ship with the pack.",
            search_aliases=["video infinity model", "wan", "modelscope", "zeroscope", "videocrafter2", "diffusers"],
            inputs=[
                io.Combo.Input(
                    "model", options=names, tooltip="A folder in models/diffusers, in diffusers format, with safetensors."
                ),
                io.Combo.Input(
                    "parts",
                    options=[SAME, *names],
                    default=SAME,
                    optional=True,
                    tooltip="Where the text encoder, VAE and scheduler come from if the model's folder holds the net alone.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=["float32", "float16", "bfloat16"],
                    default="float32",
                    tooltip="float16 for GPUs, bfloat16 for Wan on them; float32 for CPU ranks.",
                ),
                io.Combo.Input(
                    "offload",
                    options=["none", "parts"],
                    default="none",
                    optional=True,
                    tooltip="parts: text encoder, net and VAE wait in host memory while another works; less GPU memory, a "
                    "little slower. none: all stay on the GPU.",
                ),
            ],
            outputs=[Model.Output("model", tooltip="Which model to run; for the sampler, decode and encode nodes.")],
        )

    @classmethod
    def validate_inputs(cls, model: str | None, parts: str | None = SAME) -> bool | str:
        """Refuse a folder that can't be run, before anything runs; None comes over a link, and is seen when the node runs."""
        return model is None or parts is None or host.refused(lambda: find(model, parts))

    @classmethod
    @checks_widgets
    def execute(cls, model: str, dtype: str, parts: str = SAME, offload: str = "none") -> io.NodeOutput:
        choice, _ = find(model, parts, dtype=dtype, offload=offload)
        return io.NodeOutput(choice)


def find(model: str, parts: str = SAME, **how: str) -> tuple[ModelChoice, ModelFolder]:
    """Return the choice that two names stand for, and what their folders hold; raise JobRefused if they can't be run."""
    found = host.model_folders()
    if model not in found or (parts != SAME and parts not in found):
        raise JobRefused(f"model {model!r} with parts {parts!r} is not in models/diffusers: choose one of {', '.join(found)}")
    first, second = found[model], None if parts == SAME else found[parts]
    inspected = folder.inspect(first, second)
    return checked(ModelChoice, model=first, parts=second, **how), inspected
