"""Load Video Model: which model folder to run, as a description."""

from comfy_api.latest import io

from ..parallel import folder
from ..parallel.protocol import checked
from . import host
from .sockets import CATEGORY, Model, ModelChoice

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
            description="Chooses a diffusers text-to-video model from models/diffusers, or the small one that ships with the pack.",
            search_aliases=["video infinity model", "modelscope", "zeroscope", "videocrafter2", "diffusers"],
            inputs=[
                io.Combo.Input(
                    "model", options=names, tooltip="A folder in models/diffusers, in diffusers format, with safetensors."
                ),
                io.Combo.Input(
                    "parts",
                    options=[SAME, *names],
                    default=SAME,
                    optional=True,
                    tooltip="Where the text encoder, VAE and scheduler come from if the model's folder holds the UNet alone.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=["float32", "float16", "bfloat16"],
                    default="float32",
                    tooltip="float16 for GPUs; float32 for CPU ranks.",
                ),
                io.Combo.Input(
                    "offload",
                    options=["none", "parts"],
                    default="none",
                    optional=True,
                    tooltip="parts: text encoder, UNet and VAE wait in host memory while another works; less GPU memory, a "
                    "little slower. none: all stay on the GPU.",
                ),
            ],
            outputs=[Model.Output("model", tooltip="Which model to run; for the sampler, decode and encode nodes.")],
        )

    @classmethod
    def validate_inputs(cls, model: str, parts: str = SAME) -> bool | str:
        """Refuse a folder that can't be run, before anything runs."""
        found = host.model_folders()
        if model not in found or (parts != SAME and parts not in found):
            return f"model {model!r} with parts {parts!r} is not in models/diffusers: choose one of {', '.join(found)}"
        return host.refused(lambda: folder.inspect(found[model], None if parts == SAME else found[parts]))

    @classmethod
    def execute(cls, model: str, dtype: str, parts: str = SAME, offload: str = "none") -> io.NodeOutput:
        found = host.model_folders()
        second = None if parts == SAME else found[parts]
        return io.NodeOutput(checked(ModelChoice, model=found[model], parts=second, dtype=dtype, offload=offload))
