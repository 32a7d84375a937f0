"""Clip-Parallel Sampler: noise (or a LATENT) -> the latents of one long video."""

from comfy_api.latest import io

from . import host
from .sockets import CATEGORY, Model, ModelChoice, RanksChoice, Timeline, TimelineText
from .widgets import build_job, ranks_input, sampling_inputs, scope_input, size_inputs, tuning_input


class ClipParallelSampler(io.ComfyNode):
    """Denoise one long video on all ranks, each its own clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoInfinityClipParallelSampler",
            display_name="Clip-Parallel Sampler",
            category=CATEGORY,
            description="Samples one long video on all ranks at once, each its own clip, with no seam between them.",
            search_aliases=["ksampler", "video sampler", "long video", "clip parallelism"],
            inputs=[
                Model.Input("model", tooltip="From Load Video Model."),
                Timeline.Input("timeline", tooltip="From Prompt Timeline."),
                *size_inputs(),
                *sampling_inputs(),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the steps to run on `latent`: low keeps it, high changes it; 1 starts from noise alone.",
                ),
                ranks_input(),
                scope_input(),
                io.Latent.Input("latent", optional=True, tooltip="A video to start from, with `denoise` below 1."),
                tuning_input(),
                io.Combo.Input(
                    "noise",
                    options=["independent", "shuffled", "mixed"],
                    default="independent",
                    optional=True,
                    tooltip="How alike the frames begin: each with its own noise; the first 16 frames' noise again and again, "
                    "shuffled (FreeNoise); or partly the same noise in all frames. Alike frames tend to hold together, and to "
                    "move less.",
                ),
                io.Float.Input(
                    "noise_share",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="With `mixed` noise: how much of it all frames have in common; 0 is none, 1 is all.",
                ),
            ],
            outputs=[io.Latent.Output("latent", tooltip="The video's latents, (1, C, T, h, w): decode, save or refine them.")],
        )

    @classmethod
    def execute(
        cls,
        model: ModelChoice,
        timeline: TimelineText,
        denoise: float,
        ranks=None,
        scope=None,
        latent=None,
        tuning=None,
        noise="independent",
        noise_share=0.5,
        **widgets,
    ) -> io.NodeOutput:
        widgets |= {"denoise": denoise, "noise": {"kind": noise, "share": noise_share}}
        job = build_job(model, timeline, scope, tuning, decode=False, **widgets)
        init = None if latent is None or denoise == 1 else latent["samples"][0]
        video = host.run(job, ranks or RanksChoice(), init=init)
        return io.NodeOutput({"samples": video.latents})
