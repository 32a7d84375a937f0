"""What is asked for: one video to make. Frozen, and validated once where it is built."""

import unicodedata
from itertools import pairwise
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator

from .errors import JobRefused
from .files import MAX_LORAS, Lora, ModelFiles
from .frozen import Frozen

Scheduler = Literal["model", "ddim", "dpmpp_2m", "uni_pc", "euler", "euler_ancestral"]
DType = Literal["float32", "float16", "bfloat16"]
Offload = Literal["auto", "none", "parts", "blocks"]
Places = Literal["near", "true"]
Travel = Literal["auto", "hidden_states", "keys_values"]
Branches = Literal["auto", "together", "apart"]
Parking = Literal["auto", "never", "always"]
NoiseKind = Literal["independent", "shuffled", "mixed"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Frozen_T = TypeVar("Frozen_T", bound="Frozen")

ITEM_BYTES: dict[DType, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
MAX_FRAMES = 1_000_000
MAX_FPS = 240
MAX_TEXT = 10_000  # characters of one prompt
MAX_TEXTS = 1_000_000  # of all prompts: a job must fit into one message


def _printable(text: str) -> str:
    """Refuse control characters: they say nothing to a model, and could rewrite a terminal's or a log's lines."""
    odd = next((letter for letter in text if not letter.isprintable() and unicodedata.category(letter) in ("Cc", "Cs")), None)
    if odd is not None and odd not in "\t\n\r":
        raise ValueError(f"text: wanted no control characters, got {odd!r}: remove it")
    return text


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_printable)]


class Prompt(Frozen):
    """A prompt that holds from a frame on, until the next one."""

    frame: int = Field(ge=0, lt=MAX_FRAMES)
    text: Text


class Keyframe(Frozen):
    """A picture that is given, or a run of frames, and where in the video it stands. Its pixels travel beside the job."""

    frame: int = Field(ge=0, lt=MAX_FRAMES, description="of the video, that shows its first picture")
    count: int = Field(1, ge=1, le=MAX_FRAMES, description="pictures: consecutive frames of the video")
    strength: float = Field(
        1.0, gt=0, le=1, allow_inf_nan=False, description="share of the schedule, from its noisy begin on, for which it holds"
    )
    keep: bool = Field(
        False, description="what is given out shows the given pixels themselves, and not what the model made of them"
    )

    @property
    def last(self) -> int:
        """The frame of the video that shows its last picture."""
        return self.frame + self.count - 1


class Scope(Frozen):
    """Which frames a frame attends to, and with what bias (paper sec. 4.2). Pairs are (early phase, late phase)."""

    local_context: int | None = Field(
        None, ge=0, le=MAX_FRAMES, description="frames on either side that a frame attends to; None: what suits the model"
    )
    global_frames: int | None = Field(
        None,
        ge=0,
        le=MAX_FRAMES,
        description="frames spread over the whole video that all attend to; None: what suits the model",
    )
    local_bias: tuple[Finite, Finite] = Field((0.0, 0.0), description="added to the logits of local keys")
    global_bias: tuple[Finite, Finite] = Field((0.0, 0.0), description="added to the logits of global keys")
    phase_timestep: int = Field(800, ge=0, description="timesteps above it are early; unused with `ramp`")
    ramp: bool = Field(False, description="go from early to late evenly over the schedule instead of at a timestep")
    trained_frames: int | None = Field(None, ge=2, description="scale logits by log(keys) / log(this); None: do not")
    model_frames: int | None = Field(
        None,
        ge=1,
        le=MAX_FRAMES,
        description="of a clip that the model was trained on, by which scopes are measured; None: its own",
    )
    places: Places = Field(
        "near", description="of 3D attention: global keys stand right outside the window (near), or at their true distance"
    )
    rotate: bool = Field(False, description="of 3D attention: all global frames but the first move on by one latent a step")
    full_windows: bool = Field(
        False, description="of 3D attention: windows grow at the video's ends and where a global frame lies within"
    )


class Noise(Frozen):
    """What a video starts from, by frame number: how alike the noise of its frames is. Each frame's is standard normal."""

    kind: NoiseKind = Field(
        "independent",
        description="independent: every frame its own; shuffled: later frames reuse the first ones' in another order "
        "(FreeNoise, arXiv 2310.15169); mixed: partly the same in all frames (PYoCo, arXiv 2305.10474)",
    )
    window: int = Field(16, ge=1, le=MAX_FRAMES, description="of `shuffled`: first frames that have their own noise")
    stride: int = Field(4, ge=1, le=MAX_FRAMES, description="of `shuffled`: frames within which the order changes")
    share: float = Field(
        0.5, ge=0, le=1, allow_inf_nan=False, description="of `mixed`: variance that all frames have in common"
    )

    @model_validator(mode="after")
    def _check_window(self) -> "Noise":
        if self.window % self.stride:
            fitting = max(1, self.window // self.stride) * self.stride
            raise ValueError(
                f"noise: wanted a window that is a multiple of the stride {self.stride}, got {self.window}: use {fitting}"
            )
        return self


class Tuning(Frozen):
    """How a job is run. Only `stale_after` and `reuse_every` change the video, and say so."""

    branches: Branches = Field(
        "auto", description="guidance's two calls of the net at once, or one after the other: half the memory"
    )
    park_skips: Parking = Field("auto", description="skip tensors wait in host memory: half the memory, a little slower")
    frames_at_once: int | None = Field(None, ge=1, le=MAX_FRAMES, description="of spatial layers; None: what suits the device")
    pixels_at_once: int | None = Field(None, ge=1, le=1 << 20, description="of layers over frames; None: what suits the device")
    stale_after: int | None = Field(
        None, ge=1, le=1000, description="after so many exact steps use what other ranks sent some steps ago; None: never"
    )
    stale_for: int = Field(8, ge=1, le=1000, description="steps for which what other ranks sent is used, once it is stale")
    reuse_every: int = Field(1, ge=1, le=100, description="run the deep layers only every so many steps; 1: always")
    travel: Travel = Field(
        "auto", description="of 3D attention, between ranks; auto: what the measured link and device make faster"
    )
    compile: bool = Field(False, description="torch.compile spatial layers, on a GPU")


class Job(Frozen):
    """One video to make. Nothing in it names a rank: the video is a function of the job alone (law 1)."""

    model: str = Field(min_length=1, description="a diffusers model folder, or a file that holds a net")
    parts: str | None = Field(None, description="a second folder for what `model` lacks: text encoder, VAE, scheduler")
    files: ModelFiles = ModelFiles()
    loras: tuple[Lora, ...] = Field((), max_length=MAX_LORAS)
    dtype: DType = "float32"
    offload: Offload = Field(
        "auto",
        description="`parts`: what a phase does not use waits in host memory; `blocks`: so do the blocks of a net whose turn is not "
        "near; `auto`: what fits a GPU's free memory",
    )
    prompts: tuple[Prompt, ...] = Field(min_length=1, max_length=10_000)
    fade: int = Field(0, ge=0, le=MAX_FRAMES, description="frames over which a prompt takes over from the one before")
    negative: Text = ""
    frames: int = Field(ge=1, le=MAX_FRAMES)
    height: int = Field(ge=8, le=8192)
    width: int = Field(ge=8, le=8192)
    fps: float = Field(8.0, gt=0, le=MAX_FPS, allow_inf_nan=False)
    num_inference_steps: int = Field(20, ge=0, le=1000)
    guidance_scale: float = Field(7.5, ge=0, le=100, allow_inf_nan=False)
    guidance_scale_2: float | None = Field(
        None, ge=0, le=100, allow_inf_nan=False, description="of a model's second net; None: as the first's"
    )
    shift: float | None = Field(
        None,
        gt=0,
        le=100,
        allow_inf_nan=False,
        description="of a flow schedule: more steps at high noise; None: the model's own",
    )
    seed: int = Field(0, ge=0, lt=2**64)
    scheduler: Scheduler = "model"
    loop: bool = False
    keyframes: tuple[Keyframe, ...] = Field((), max_length=10_000)
    noise: Noise = Noise()
    scope: Scope = Scope()
    tuning: Tuning = Tuning()
    denoise: float = Field(1.0, gt=0, le=1, allow_inf_nan=False, description="share of the schedule to run on `init`")
    decode: bool = Field(True, description="also turn the latents into frames")

    @model_validator(mode="after")
    def _check_prompts(self) -> "Job":
        starts = [prompt.frame for prompt in self.prompts]
        if starts[0] != 0:
            raise ValueError(f"prompts: the first one must start at frame 0, got frame {starts[0]}: add a prompt at 0")
        for before, after in pairwise(starts):
            if after <= before:
                raise ValueError(f"prompts: frame {after} comes after frame {before}: sort them, one prompt a frame")
        if sum(len(prompt.text) for prompt in self.prompts) > MAX_TEXTS:
            raise ValueError(f"prompts: wanted at most {MAX_TEXTS} characters in all: shorten them")
        if starts[-1] >= self.frames:
            raise ValueError(
                f"prompts: frame {starts[-1]} is past the end of a video of {self.frames} frames: "
                f"use frames 0 to {self.frames - 1}"
            )
        return self

    @model_validator(mode="after")
    def _check_keyframes(self) -> "Job":
        for before, after in pairwise(self.keyframes):
            if after.frame <= before.last:
                raise ValueError(
                    f"keyframes: frame {after.frame} comes after frame {before.last}: wanted them in order, one picture a frame"
                )
        if self.keyframes and self.keyframes[-1].last >= self.frames:
            raise ValueError(
                f"keyframes: frame {self.keyframes[-1].last} is past the end of a video of {self.frames} frames: use frames 0 to "
                f"{self.frames - 1}"
            )
        return self

    def with_keyframes(self, keyframes: tuple[Keyframe, ...]) -> "Job":
        """Return the same job with these keyframes; raise JobRefused."""
        return checked(Job, **{**dict(self), "keyframes": keyframes})

    @property
    def given_frames(self) -> int:
        """How many pictures all keyframes have together: their pixels are (these, height, width, 3)."""
        return sum(keyframe.count for keyframe in self.keyframes)

    @property
    def texts(self) -> tuple[str, ...]:
        """The negative prompt, then the timeline's in their order, each text once: embeddings that come with a job have a row for each."""
        return tuple(dict.fromkeys((self.negative, *(prompt.text for prompt in self.prompts))))

    @property
    def most_guidance(self) -> float:
        """The largest guidance scale of any net."""
        return max(self.guidance_scale, self.guidance_of(1))

    @property
    def branches(self) -> int:
        """How many branches of guidance there are, at most: what a prompt asks for and, with guidance, what the negative one does."""
        return 2 if self.most_guidance > 1 else 1

    @property
    def skipped_steps(self) -> int:
        """How many steps at the beginning of the schedule `denoise` leaves out."""
        return self.num_inference_steps - max(1, round(self.num_inference_steps * self.denoise))

    def guidance_of(self, net: int) -> float:
        """Return the guidance scale of a net, from 0 in the order of their work."""
        return self.guidance_scale if net == 0 or self.guidance_scale_2 is None else self.guidance_scale_2

    @property
    def item_bytes(self) -> int:
        """Bytes of one number in the job's type."""
        return ITEM_BYTES[self.dtype]


def checked(form: type[Frozen_T], /, **values: object) -> Frozen_T:
    """Build a model from a user's values, or raise JobRefused that names each wrong value and what was wanted."""
    try:
        return form(**values)
    except ValidationError as error:
        raise JobRefused("; ".join(_sentence(problem) for problem in error.errors())) from None


def _sentence(problem) -> str:
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    place = ".".join(str(part) for part in problem["loc"])
    wanted = problem["msg"].removeprefix("Input should be ")
    got = repr(problem["input"])
    return f"{place}: wanted {wanted}, got {got if len(got) <= 80 else got[:77] + '...'}"
