"""Long Video: everything in one node, with defaults; the first thing that a newcomer adds."""

from comfy_api.latest import io

from ..parallel import timeline
from . import host
from .model import SAME, LoadVideoModel
from .sockets import CATEGORY, ModelChoice, RanksChoice, TimelineText
from .timeline import PROMPT
from .widgets import build_job, seed_input, size_inputs


class LongVideo(io.ComfyNode):
    """Make a long video from text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoInfinityLongVideo",
            display_name="Long Video",
            category=CATEGORY,
            description="Makes one long video from text on all GPUs: model, prompts, length, seed. The other nodes give full control.",
            search_aliases=["video infinity", "text to video", "long video generation"],
            inputs=[
                io.Combo.Input("model", options=list(host.model_folders()), tooltip="A diffusers model in models/diffusers."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default=PROMPT,
                    dynamic_prompts=True,
                    tooltip="One prompt for all frames, or a timeline, a line each: `0: a cat wakes`, `4.5s: it jumps`. "
                    "Weights: (word:1.2).",
                ),
                *size_inputs(),
                seed_input(),
            ],
            outputs=[
                io.Image.Output("images", tooltip="All frames, (T, H, W, 3)."),
                io.Latent.Output("latent", tooltip="The video's latents, (1, C, T, h, w)."),
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str) -> bool | str:
        """Refuse a folder that can't be run, before anything runs."""
        return LoadVideoModel.validate_inputs(model, SAME)

    @classmethod
    def execute(cls, model: str, prompt: str, **widgets) -> io.NodeOutput:
        cfg = 3.0 if model == host.BUNDLED else 9.0
        choice = ModelChoice(model=host.model_folders()[model], dtype=host.fitting_dtype())
        job = build_job(
            choice, TimelineText(text=timeline.as_timeline(prompt), fade=4), None, fps=8.0, steps=20, cfg=cfg, **widgets
        )
        video = host.run(job, RanksChoice())
        return io.NodeOutput(video.frames, {"samples": video.latents})
