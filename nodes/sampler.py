"""Clip-Parallel Sampler: noise, or a LATENT, or an IMAGE -> the latents of one long video."""

from comfy_api.latest import io

from ..parallel.families import folder
from ..parallel.job.errors import JobRefused
from . import border, host
from .embeddings import clip_input, clip_vision_input, conditioning_inputs, tokens_of_pictures, with_embeddings
from .keyframes import pixels_of, with_keyframes
from .sockets import CATEGORY, Model, ModelChoice, RanksChoice, Timeline, TimelineText
from .widgets import (
    build_job,
    checks_widgets,
    fill_sizes,
    keyframes_input,
    ranks_input,
    sampling_inputs,
    scope_input,
    size_inputs,
    tuning_input,
    two_net_inputs,
)

SEARCHED = ["ksampler", "video sampler", "long video", "clip parallelism", "text to video", "t2v", "txt2vid"]
SEARCHED += ["image to video", "img2vid", "i2v", "video to video", "vid2vid", "v2v"]


def _noise_inputs() -> list[io.Input]:
    return [
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
    ]


class ClipParallelSampler(io.ComfyNode):
    """Denoise one long video on all ranks, each its own clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoInfinityClipParallelSampler",
            display_name="Clip-Parallel Sampler",
            category=CATEGORY,
            description="Samples one long video on all ranks at once, each its own clip, with no seam between them.",
            search_aliases=SEARCHED,
            inputs=[
                Model.Input("model", tooltip="From Load Video Model."),
                Timeline.Input("timeline", tooltip="From Prompt Timeline."),
                *size_inputs(has_start=True),
                *sampling_inputs(),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the steps to run on `latent` or `image`: low keeps it, high changes it; 1 starts from noise alone.",
                ),
                ranks_input(),
                scope_input(),
                io.Latent.Input(
                    "latent", optional=True, tooltip="A video, or one frame for all, to start from, with `denoise` below 1."
                ),
                tuning_input(),
                *_noise_inputs(),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="Instead of `latent`: a picture for all frames, or a video's frames, to start from, with `denoise` "
                    "below 1; scaled to width and height, and cropped to their middle.",
                ),
                *two_net_inputs(),
                keyframes_input(),
                clip_input(),
                *conditioning_inputs(),
                clip_vision_input(),
            ],
            outputs=[
                io.Latent.Output(
                    "latent", tooltip="The video's latents, as ComfyUI's nodes have them: decode, save or refine them."
                ),
                io.Float.Output("fps", tooltip="Frames a second, for Create Video."),
            ],
        )

    @classmethod
    @checks_widgets
    def execute(
        cls,
        model: ModelChoice,
        timeline: TimelineText,
        width: int,
        height: int,
        frames: int,
        denoise: float,
        ranks=None,
        scope=None,
        latent=None,
        tuning=None,
        noise="independent",
        noise_share=0.5,
        image=None,
        keyframes=(),
        clip=None,
        positive=None,
        negative=None,
        clip_vision_output=None,
        **widgets,
    ) -> io.NodeOutput:
        parts = folder.inspect(model.model, model.parts, model.files)
        given = border.init_of(latent, image, parts)
        if given is None and denoise < 1:
            raise JobRefused(
                f"denoise: {denoise:g} needs a video or a picture to start from: connect latent or image, or use 1"
            )
        sizes = fill_sizes(parts, given.size if given else None, width=width, height=height, frames=frames)
        widgets |= sizes | {"denoise": denoise, "noise": {"kind": noise, "share": noise_share}}
        job, pictures = with_keyframes(build_job(model, timeline, scope, tuning, decode=False, **widgets), keyframes)
        folder.check(job, 1, parts)  # before a picture is scaled
        init = None if given is None or denoise == 1 else border.fit(given, job, parts)
        is_latents = given is not None and given.kind == "latent"
        pixels = pixels_of(pictures, job)
        tokens = tokens_of_pictures(job, parts, clip_vision_output)
        job, embeddings = with_embeddings(job, parts, clip=clip, positive=positive, negative=negative)
        video = host.run(
            job,
            parts,
            ranks or RanksChoice(),
            init=init,
            init_is_latents=is_latents,
            keyframes=pixels,
            embeddings=embeddings,
            picture_tokens=tokens,
        )
        return io.NodeOutput(border.to_comfyui(video.latents, parts, frames=job.frames), job.fps)
