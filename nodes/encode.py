"""Clip-Parallel Encode: IMAGE -> LATENT, for video-to-video."""

from comfy_api.latest import io

from ..parallel.families import folder
from . import border, host
from .sockets import CATEGORY, Model, ModelChoice, RanksChoice
from .widgets import checks_widgets, ranks_input, still_job


class ClipParallelEncode(io.ComfyNode):
    """Encode a video's frames on all ranks."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoInfinityClipParallelEncode",
            display_name="Clip-Parallel Encode",
            category=CATEGORY,
            description="Turns frames into latents, each rank its own, so that the sampler can refine them.",
            search_aliases=[
                "vae encode",
                "video encode",
                "video to video",
                "vid2vid",
                "v2v",
                "image to video",
                "img2vid",
                "i2v",
            ],
            inputs=[
                Model.Input("model", tooltip="From Load Video Model: its VAE encodes."),
                io.Image.Input("images", tooltip="All frames of a video, in order, or one picture."),
                ranks_input(),
            ],
            outputs=[io.Latent.Output("latent", tooltip="The video's latents, for the sampler.")],
        )

    @classmethod
    @checks_widgets
    def execute(cls, model: ModelChoice, images, ranks: RanksChoice | None = None) -> io.NodeOutput:
        pictures = border.frames_of("images", images)
        frames, height, width = pictures.shape[:3]
        parts = folder.inspect(model.model, model.parts, model.files)
        job = still_job(model, parts, "images", frames=frames, height=height, width=width, decode=False)
        video = host.run(job, parts, ranks or RanksChoice(), init=pictures)
        return io.NodeOutput(border.to_comfyui(video.latents, parts, frames=job.frames))
