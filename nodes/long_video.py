"""Long Video: everything in one node, with defaults; the first thing that a newcomer adds."""

from contextlib import nullcontext
from fractions import Fraction

from comfy_api.latest import InputImpl, Types, io

from ..parallel.families import folder
from ..parallel.families.table import ModelFolder
from ..parallel.job import timeline
from ..parallel.job.errors import Overflowed
from ..parallel.job.job import MAX_FRAMES, Job, Keyframe
from ..parallel.pool.movie import writing
from . import border, host, host_folders
from .embeddings import clip_input, with_embeddings
from .keyframes import pixels_of, with_keyframes
from .model import find
from .sockets import CATEGORY, Model, ModelChoice, PlacedPictures, RanksChoice, TimelineText
from .timeline import PROMPT
from .widgets import build_job, check_widgets, checks_widgets, fill_sizes, seed_input, size_inputs

FEWEST_FPS = 8.0  # that a model has: what a timeline's seconds are counted at while the model is not known

IMAGES, VIDEO = "images", "video"  # what is made of the frames
NO_IMAGES = (
    f"images: Long Video gives a video, no frame of which stays in memory: connect its video, or set its `output` to {IMAGES}"
)
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
                    "model",
                    options=list(host_folders.model_folders()),
                    tooltip="A diffusers model in models/diffusers. Not used where loaded_model is connected.",
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
                Model.Input(
                    "loaded_model",
                    optional=True,
                    tooltip="From Load Video Model or Video LoRA, instead of `model`: for single files, LoRAs, another dtype or offload.",
                ),
                io.Int.Input("steps", default=20, min=1, max=1000, optional=True, tooltip="Denoising steps."),
                io.Float.Input(
                    "cfg",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    optional=True,
                    tooltip="How strictly the prompt is followed; 0: as the model's makers use it. 1 with a distilled LoRA.",
                ),
                io.Combo.Input(
                    "output",
                    options=[IMAGES, VIDEO],
                    default=IMAGES,
                    optional=True,
                    tooltip="images: all frames are held in memory. video: frames go into a file as they come, for Save Video, and "
                    "memory does not grow with the length.",
                ),
            ],
            outputs=[
                io.Image.Output("images", tooltip="All frames, (T, H, W, 3); none if `output` is video."),
                io.Latent.Output("latent", tooltip="The video's latents, as ComfyUI's nodes have them."),
                io.Float.Output("fps", tooltip="Frames a second, for Create Video."),
                io.Video.Output("video", tooltip="The video, for Save Video."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        model: str | None,
        prompt: str | None,
        width: int | None,
        height: int | None,
        frames: int | None,
        loaded_model: object = "not connected",
    ) -> bool | str:
        """Refuse what can't be run, before anything runs; None comes over a link, and is seen when the node runs."""
        typed = {"model": model, "prompt": prompt, "width": width, "height": height, "frames": frames}
        typed = {name: value for name, value in typed.items() if value is not None}
        return host.refused(lambda: _check(cls, typed, is_loaded=loaded_model is None))

    @classmethod
    @checks_widgets
    def execute(
        cls, start_image=None, clip=None, loaded_model: ModelChoice | None = None, output: str = IMAGES, **widgets
    ) -> io.NodeOutput:
        job, model = _job(loaded_model, **widgets)
        pictures = None if start_image is None else border.frames_of("start_image", start_image)
        placed = () if pictures is None else (PlacedPictures(pictures[:1], ("0",), 1.0),)
        job, given = with_keyframes(job, placed)
        folder.check(job, 1, model)
        pixels = pixels_of(given, job)
        job, embeddings = with_embeddings(job, model, clip=clip)
        file = host_folders.temp_file("video-infinity", ".mp4")
        size = {"frames": job.frames, "height": job.height, "width": job.width}
        becoming = writing(file, **size, fps=job.fps) if output == VIDEO else nullcontext()
        try:
            with becoming as movie:
                made = host.run(job, model, RanksChoice(), keyframes=pixels, embeddings=embeddings, movie=movie)
        except Overflowed as error:
            advice = f". {OWN_DTYPE}" if loaded_model is None else ""
            raise Overflowed(f"{error}{advice}", rank=None) from error
        latent = border.to_comfyui(made.latents, model, frames=job.frames)
        if output == VIDEO:
            return io.NodeOutput(host.blocked(NO_IMAGES), latent, job.fps, InputImpl.VideoFromFile(str(file)))
        parts = Types.VideoComponents(images=made.frames, audio=None, frame_rate=Fraction(job.fps))
        return io.NodeOutput(made.frames, latent, job.fps, InputImpl.VideoFromComponents(parts))


def _check(node: type[io.ComfyNode], typed: dict, *, is_loaded: bool) -> None:
    """Raise JobRefused for the first widget that can't be run, as far as those that are typed tell; `is_loaded`: with another model."""
    check_widgets(node, typed)
    known = "model" in typed and not is_loaded
    if "prompt" in typed:
        fps = find(typed["model"])[1].fps if known else FEWEST_FPS
        timeline.read_prompt(typed["prompt"], fps=fps, frames=typed.get("frames", MAX_FRAMES))
    if known:
        blank = {"prompt": "0: a", "width": 8192, "height": 8192, "frames": 1, "seed": 0}  # what any model can make
        job, model = _job(None, **blank | {name: value for name, value in typed.items() if name != "prompt"})
        folder.check(job.with_keyframes((Keyframe(frame=0),)), 1, model)  # whether start_image is connected is seen later


def _job(
    loaded: ModelChoice | None,
    *,
    model: str,
    prompt: str,
    width: int,
    height: int,
    frames: int,
    seed: int,
    steps: int = 20,
    cfg: float = 0.0,
) -> tuple[Job, ModelFolder]:
    """Return the Job of the widgets, of the model that is loaded, else of the one with a name; raise JobRefused."""
    if loaded is None:
        choice, parts = find(model)
        choice = choice.model_copy(update={"dtype": host.fitting_dtype(parts)})
    else:
        choice, parts = loaded, folder.inspect(loaded.model, loaded.parts, loaded.files)
    sizes = fill_sizes(parts, width=width, height=height, frames=frames)
    prompts = TimelineText(text=timeline.as_timeline(prompt), fade=4)
    return build_job(
        choice, prompts, None, fps=parts.fps, steps=steps, cfg=cfg or parts.guidance_scale, seed=seed, **sizes
    ), parts
