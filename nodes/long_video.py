"""Long Video: everything in one node, with defaults; the first thing that a newcomer adds."""

from comfy_api.latest import io

from ..parallel.families import folder
from ..parallel.families.table import ModelFolder
from ..parallel.job import timeline
from ..parallel.job.errors import Overflowed
from ..parallel.job.job import MAX_FRAMES, Job, Keyframe
from . import border, host, host_folders
from .embeddings import clip_input, with_embeddings
from .keyframes import pixels_of, with_keyframes
from .model import find
from .sockets import CATEGORY, PlacedPictures, RanksChoice, TimelineText
from .timeline import PROMPT
from .widgets import build_job, check_widgets, checks_widgets, fill_sizes, seed_input, size_inputs

FEWEST_FPS = 8.0  # that a model has: what a timeline's seconds are counted at while the model is not known

OWN_DTYPE = (
    "Long Video chooses the dtype by itself: Load Video Model has it as a widget, and with Clip-Parallel Sampler and "
    "Clip-Parallel Decode latents that are finished stay"
)


class LongVideo(io.ComfyNode):
    """Make a long video from text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoInfinityLongVideo",
            display_name="Long Video",
            category=CATEGORY,
            description="Makes one long video from text on all GPUs: model, prompts, length, seed. The other nodes give full control.",
            search_aliases=["video infinity", "text to video", "t2v", "txt2vid", "long video generation"],
            inputs=[
                io.Combo.Input(
                    "model", options=list(host_folders.model_folders()), tooltip="A diffusers model in models/diffusers."
                ),
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
                io.Image.Input(
                    "start_image", optional=True, tooltip="A picture that the video begins with, which all its frames see."
                ),
                clip_input(),
            ],
            outputs=[
                io.Image.Output("images", tooltip="All frames, (T, H, W, 3)."),
                io.Latent.Output("latent", tooltip="The video's latents, as ComfyUI's nodes have them."),
                io.Float.Output("fps", tooltip="Frames a second, for Create Video."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, model: str | None, prompt: str | None, width: int | None, height: int | None, frames: int | None
    ) -> bool | str:
        """Refuse what can't be run, before anything runs; None comes over a link, and is seen when the node runs."""
        typed = {"model": model, "prompt": prompt, "width": width, "height": height, "frames": frames}
        return host.refused(lambda: _check(cls, {name: value for name, value in typed.items() if value is not None}))

    @classmethod
    @checks_widgets
    def execute(cls, start_image=None, clip=None, **widgets) -> io.NodeOutput:
        job, model = _job(**widgets)
        pictures = None if start_image is None else border.frames_of("start_image", start_image)
        placed = () if pictures is None else (PlacedPictures(pictures[:1], ("0",), 1.0),)
        job, given = with_keyframes(job, placed)
        folder.check(job, 1, model)
        pixels = pixels_of(given, job)
        job, embeddings = with_embeddings(job, model, clip=clip)
        try:
            video = host.run(job, model, RanksChoice(), keyframes=pixels, embeddings=embeddings)
        except Overflowed as error:
            raise Overflowed(f"{error}. {OWN_DTYPE}", rank=None) from error
        latent = border.to_comfyui(video.latents, model, frames=job.frames)
        return io.NodeOutput(video.frames, latent, job.fps)


def _check(node: type[io.ComfyNode], typed: dict) -> None:
    """Raise JobRefused for the first widget that can't be run, as far as those that are typed tell."""
    check_widgets(node, typed)
    if "prompt" in typed:
        fps = find(typed["model"])[1].fps if "model" in typed else FEWEST_FPS
        timeline.read_prompt(typed["prompt"], fps=fps, frames=typed.get("frames", MAX_FRAMES))
    if "model" in typed:
        blank = {"prompt": "0: a", "width": 8192, "height": 8192, "frames": 1, "seed": 0}  # what any model can make
        job, model = _job(**blank | {name: value for name, value in typed.items() if name != "prompt"})
        folder.check(job.with_keyframes((Keyframe(frame=0),)), 1, model)  # whether start_image is connected is seen later


def _job(*, model: str, prompt: str, width: int, height: int, frames: int, seed: int) -> tuple[Job, ModelFolder]:
    choice, parts = find(model)
    choice = choice.model_copy(update={"dtype": host.fitting_dtype(parts)})
    sizes = fill_sizes(parts, width=width, height=height, frames=frames)
    prompts = TimelineText(text=timeline.as_timeline(prompt), fade=4)
    return build_job(choice, prompts, None, fps=parts.fps, steps=20, cfg=parts.guidance_scale, seed=seed, **sizes), parts
