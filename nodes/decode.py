"""Clip-Parallel Decode: LATENT -> IMAGE, each rank its own frames, straight into the IMAGE."""

from comfy_api.latest import io

from ..parallel import folder
from . import host
from .sockets import CATEGORY, Model, ModelChoice, RanksChoice
from .widgets import ranks_input, still_job


class ClipParallelDecode(io.ComfyNode):
    """Decode a video's latents on all ranks."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoInfinityClipParallelDecode",
            display_name="Clip-Parallel Decode",
            category=CATEGORY,
            description="Turns a long video's latents into frames, each rank its own.",
            search_aliases=["vae decode", "video decode"],
            inputs=[
                Model.Input("model", tooltip="From Load Video Model: its VAE decodes."),
                io.Latent.Input("latent", tooltip="From the Clip-Parallel Sampler or Encode."),
                ranks_input(),
            ],
            outputs=[io.Image.Output("images", tooltip="All frames, (T, H, W, 3).")],
        )

    @classmethod
    def execute(cls, model: ModelChoice, latent: dict, ranks: RanksChoice | None = None) -> io.NodeOutput:
        scale = folder.inspect(model.model, model.parts).scale
        frames, height, width = latent["samples"].shape[-3:]
        job = still_job(model, frames=frames, height=height * scale, width=width * scale, decode=True)
        return io.NodeOutput(host.run(job, ranks or RanksChoice(), init=latent["samples"][0]).frames)
