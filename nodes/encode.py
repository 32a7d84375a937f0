"""Clip-Parallel Encode: IMAGE -> LATENT, for video-to-video."""

from comfy_api.latest import io

from . import host
from .sockets import CATEGORY, Model, ModelChoice, RanksChoice
from .widgets import ranks_input, still_job


class ClipParallelEncode(io.ComfyNode):
    """Encode a video's frames on all ranks."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoInfinityClipParallelEncode",
            display_name="Clip-Parallel Encode",
            category=CATEGORY,
            description="Turns frames into latents, each rank its own, so that the sampler can refine them.",
            search_aliases=["vae encode", "video to video", "video encode"],
            inputs=[
                Model.Input("model", tooltip="From Load Video Model: its VAE encodes."),
                io.Image.Input("images", tooltip="All frames of a video, in order."),
                ranks_input(),
            ],
            outputs=[io.Latent.Output("latent", tooltip="The video's latents, (1, C, T, h, w), for the sampler.")],
        )

    @classmethod
    def execute(cls, model: ModelChoice, images, ranks: RanksChoice | None = None) -> io.NodeOutput:
        frames, height, width = images.shape[:3]
        job = still_job(model, frames=frames, height=height, width=width, decode=False)
        return io.NodeOutput({"samples": host.run(job, ranks or RanksChoice(), init=images[..., :3]).latents})
