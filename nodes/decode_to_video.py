"""Clip-Parallel Decode to Video: LATENT -> VIDEO, encoded into a file as frames come, so that no IMAGE of all of them is made."""

from comfy_api.latest import InputImpl, io

from ..parallel.families import folder
from ..parallel.pool.movie import writing
from . import border, host, host_folders
from .decode import job_of
from .sockets import CATEGORY, Model, ModelChoice, RanksChoice
from .widgets import checks_widgets, ranks_input


class ClipParallelDecodeToVideo(io.ComfyNode):
    """Decode a video's latents on all ranks, into a file of ComfyUI's temp folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoInfinityClipParallelDecodeToVideo",
            display_name="Clip-Parallel Decode to Video",
            category=CATEGORY,
            description="Turns a long video's latents into a VIDEO, which goes into a file as it is decoded: memory does not "
            "grow with its length.",
            search_aliases=["vae decode", "video decode", "latent to video", "create video", "save video"],
            inputs=[
                Model.Input("model", tooltip="From Load Video Model: its VAE decodes."),
                io.Latent.Input(
                    "latent", tooltip="A video's latents: from Clip-Parallel Sampler or Encode, or ComfyUI's own nodes."
                ),
                io.Float.Input(
                    "fps", default=8.0, min=0.1, max=240.0, step=0.5, tooltip="Frames a second: from Clip-Parallel Sampler."
                ),
                ranks_input(),
            ],
            outputs=[io.Video.Output("video", tooltip="The video, H.264 in a file of the temp folder: for Save Video.")],
        )

    @classmethod
    @checks_widgets
    def execute(cls, model: ModelChoice, latent: dict, fps: float, ranks: RanksChoice | None = None) -> io.NodeOutput:
        parts = folder.inspect(model.model, model.parts, model.files)
        latents_CTHW = border.from_comfyui(latent, parts)
        job = job_of(model, parts, latent, latents_CTHW)
        file = host_folders.temp_file("video-infinity", ".mp4")
        with writing(file, frames=job.frames, height=job.height, width=job.width, fps=fps) as movie:
            host.run(job, parts, ranks or RanksChoice(), init=latents_CTHW, init_is_latents=True, movie=movie)
        return io.NodeOutput(InputImpl.VideoFromFile(str(file)))
