"""Video LoRA: a model with one LoRA more, as a description."""

from comfy_api.latest import io

from ..parallel.families import folder
from ..parallel.job.errors import JobRefused
from ..parallel.job.files import Lora
from ..parallel.job.job import checked
from . import host, host_folders
from .sockets import CATEGORY, Model, ModelChoice
from .widgets import checks_widgets


class VideoLora(io.ComfyNode):
    """Add a LoRA to a model. Nothing is loaded here: the ranks put it into the nets that they have."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoInfinityVideoLora",
            display_name="Video LoRA",
            category=CATEGORY,
            description="Adds a LoRA to a model; several in a row add up. Another strength does not load the model again.",
            search_aliases=["lora", "load lora", "lora loader", "lightx2v", "lightning", "distill"],
            inputs=[
                Model.Input("model", tooltip="From Load Video Model, or from another Video LoRA."),
                io.Combo.Input(
                    "lora",
                    options=list(host_folders.loras()),
                    tooltip="A file in models/loras, as .safetensors: of diffusers, PEFT, kohya, musubi or ComfyUI.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How much of it is added; 0 changes nothing.",
                ),
                io.Combo.Input(
                    "net",
                    options=["all", "high", "low"],
                    default="all",
                    tooltip="Of a model with two nets, which one it is for: high or low noise.",
                ),
            ],
            outputs=[Model.Output("model", tooltip="The model with this LoRA; for the sampler, decode and encode nodes.")],
        )

    @classmethod
    @checks_widgets
    def execute(cls, model: ModelChoice, lora: str, strength: float, net: str) -> io.NodeOutput:
        listed = host_folders.loras()
        if lora not in listed:
            raise JobRefused(f"lora {lora!r} is not in models/loras: choose one of {', '.join(listed) or 'none'}")
        added = checked(Lora, file=listed[lora], strength=strength, net=net)
        parts = folder.inspect(model.model, model.parts, model.files)
        host.show_text("\n".join(parts.lora_remarks((added,))))
        return io.NodeOutput(model.model_copy(update={"loras": (*model.loras, added)}))
