"""Clip-Parallel Decode: LATENT -> IMAGE, each rank its own frames, straight into the IMAGE."""

import torch
from comfy_api.latest import io

from ..parallel.families import folder
from ..parallel.families.table import ModelFolder
from ..parallel.job.job import Job
from . import border, host
from .sockets import CATEGORY, Model, ModelChoice, RanksChoice
from .widgets import checks_widgets, ranks_input, still_job


class ClipParallelDecode(io.ComfyNode):
    """Decode a video's latents on all ranks."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoInfinityClipParallelDecode",
            display_name="Clip-Parallel Decode",
            category=CATEGORY,
            description="Turns a long video's latents into frames, each rank its own.",
            search_aliases=["vae decode", "video decode", "latent to video"],
            inputs=[
                Model.Input("model", tooltip="From Load Video Model: its VAE decodes."),
                io.Latent.Input(
                    "latent", tooltip="A video's latents: from Clip-Parallel Sampler or Encode, or ComfyUI's own nodes."
                ),
                ranks_input(),
            ],
            outputs=[io.Image.Output("images", tooltip="All frames, (T, H, W, 3).")],
        )

    @classmethod
    @checks_widgets
    def execute(cls, model: ModelChoice, latent: dict, ranks: RanksChoice | None = None) -> io.NodeOutput:
        parts = folder.inspect(model.model, model.parts, model.files)
        latents_CTHW = border.from_comfyui(latent, parts)
        job = job_of(model, parts, latent, latents_CTHW)
        video = host.run(job, parts, ranks or RanksChoice(), init=latents_CTHW, init_is_latents=True)
        return io.NodeOutput(video.frames)


def job_of(model: ModelChoice, parts: ModelFolder, latent: dict, latents_CTHW: torch.Tensor) -> Job:
    """Return the Job that decodes a LATENT, given its latents; raise JobRefused."""
    _, latents, height, width = latents_CTHW.shape
    frames = border.frames_in(latent, latents, parts)
    size = {"frames": frames, "height": height * parts.scale, "width": width * parts.scale}
    return still_job(model, parts, "latent", **size, decode=True)
