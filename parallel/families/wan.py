"""The host half of `WanTransformer3DModel`: Wan 2.1 and 2.2 from text, with one net or two, and the bundled small one.

What its folder holds, how frames become latents, which schedulers suit it, and what a job takes. The formulas of its net and
VAE are in wan_shape.py and wan_vae_shape.py. Its rank half is models/wan.py.
"""

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from ..job.errors import JobRefused
from ..job.job import Frozen, Job, checked
from . import parts
from .frame_layer import FrameLayer
from .geometry import Geometry
from .latent_format import LatentFormat
from .parts import Place
from .safety import read_config
from .wan_shape import ClipCall, WanShape, exchanges
from .wan_vae_shape import WanVAESizes, decode_numbers, decode_reach

VAES = ("AutoencoderKLWan",)
TEXT_ENCODERS = ("UMT5EncoderModel",)
TEXT_MODEL_TYPES = ("umt5",)
TRAINED_FRAMES = 81  # of Wan 2.1 and A14B
TRAINED_FRAMES_TIMED = 121  # of TI2V-5B, the one with a time for each frame
TRAIN_TIMESTEPS = 1000
TRAINING = "training.json"  # in a model's folder, of this pack's own: {"trained_frames": 33}


class TextSizes(Frozen):
    """The sizes of a text encoder."""

    d_model: int = 4096


class Pipeline(Frozen):
    """What a model's index says beside its parts."""

    boundary_ratio: float | None = Field(None, ge=0, le=1)
    expand_timesteps: bool = False


class Wan(Frozen):
    """An inspected model: where its parts are, the numbers that a job is checked against, and what a job takes.

    It travels with the job to the ranks as JSON: nobody reads the folder's configuration again.
    """

    net: ClassVar[str] = "transformer"
    other_parts: ClassVar[tuple[str, ...]] = ("vae", "text_encoder", "tokenizer", "scheduler")
    optional_parts: ClassVar[tuple[str, ...]] = ("transformer_2",)
    parts_with_weights: ClassVar[tuple[str, ...]] = ("transformer", "transformer_2", "vae", "text_encoder")
    schedulers: ClassVar[dict[str, str]] = {
        "euler": "FlowMatchEulerDiscreteScheduler",
        "uni_pc": "UniPCMultistepScheduler",
        "dpmpp_2m": "DPMSolverMultistepScheduler",
    }
    guidance_scale: ClassVar[float] = 5.0  # the default of diffusers' own pipeline
    shares_text: ClassVar[bool] = True  # its text encoder has 11 GB: one rank of a machine loads it

    family: Literal["WanTransformer3DModel"] = "WanTransformer3DModel"
    transformer: Place
    transformer_2: Place | None = None
    vae: Place
    text_encoder: Place
    tokenizer: Place
    scheduler: Place
    scheduler_class: str
    solver_order: int = Field(ge=1, le=3)
    shape: WanShape
    vae_sizes: WanVAESizes
    geometry: Geometry
    boundary_ratio: float | None = None

    @classmethod
    def read(cls, places: dict[str, Path]) -> "Wan":
        """Return the model whose parts lie in some folders; raise JobRefused unless they are whole and work together."""
        shape, vae = parts.read_sizes(WanShape, places["transformer"]), parts.read_sizes(WanVAESizes, places["vae"])
        _check_fit(shape, vae, places)
        scheduler = read_config(places["scheduler"] / "scheduler_config.json")
        pipeline = _read_pipeline(places["transformer"].parent)
        if (pipeline.boundary_ratio is None) != ("transformer_2" not in places):
            raise JobRefused(
                f"{places['transformer'].parent}: wanted transformer_2 together with boundary_ratio in model_index.json, which says "
                "from where on it is at work, got one of them: get the folder again"
            )
        trained = _trained_frames(places["transformer"].parent, pipeline)
        return checked(
            cls,
            **places,
            scheduler_class=parts.class_of(places["scheduler"], scheduler),
            solver_order=scheduler.get("solver_order", 2),
            shape=shape,
            vae_sizes=vae,
            geometry=Geometry.trained_on(trained, scale=vae.scale_factor_spatial, frames_per_latent=vae.scale_factor_temporal),
            boundary_ratio=pipeline.boundary_ratio,
        )

    @property
    def scale(self) -> int:
        """Pixels of a frame for one latent pixel."""
        return self.geometry.scale

    @property
    def latent_format(self) -> LatentFormat:
        """What the net's latents are to the VAE's."""
        return LatentFormat(mean=self.vae_sizes.latents_mean, std=self.vae_sizes.latents_std, is_video=True)

    @property
    def size_step(self) -> int:
        """What height and width must be multiples of, in pixels: a token is a patch of latent pixels."""
        return self.scale * self.shape.patch_size[1]

    @property
    def own_size(self) -> tuple[int, int] | None:
        """Height and width in pixels that its configuration names: none."""
        return None

    @property
    def latent_channels(self) -> int:
        """Channels of its latents."""
        return self.vae_sizes.z_dim

    @property
    def weight_folders(self) -> tuple[Path, ...]:
        """The parts that have weights."""
        found = (getattr(self, name) for name in self.parts_with_weights)
        return tuple(folder for folder in found if folder is not None)

    def latents_shape(self, job: Job) -> tuple[int, int, int, int]:
        """Return the shape (C, T, h, w) of a job's latents."""
        return self.geometry.latents_shape(self.latent_channels, frames=job.frames, height=job.height, width=job.width)

    def net_at(self, timestep: float) -> int:
        """Return the number of the net that is at work at a timestep: the first one where there is much noise."""
        return int(self.boundary_ratio is not None and timestep < self.boundary_ratio * TRAIN_TIMESTEPS)

    def scheduler_settings(self, kind: str, config: dict[str, Any], shift: float | None) -> dict[str, Any]:
        """Return what a scheduler of a class has in place of the folder's configuration: its schedule is one of flow matching."""
        moved = shift or config.get("flow_shift") or config.get("shift") or 1.0
        if kind == "FlowMatchEulerDiscreteScheduler":
            return {"shift": moved}
        return {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": moved}

    def history(self, scheduler: str) -> int:
        """Return how many tensors of the latents' size a scheduler, by the job's name for it, remembers between steps."""
        kind = self.schedulers.get(scheduler, self.scheduler_class)
        return self.solver_order * kind.endswith("MultistepScheduler") + kind.startswith("UniPC")

    def check(self, job: Job) -> None:
        """Raise JobRefused if a job asks for what this family can't do."""
        if self.transformer_2 is None and job.guidance_scale_2 is not None:
            raise JobRefused("guidance: this model has one net, got a scale for a second: give one number")
        if job.tuning.reuse_every > 1:
            raise JobRefused("reuse_every: a transformer has no outermost blocks that could run alone: use 1")
        if job.tuning.park_skips == "always":
            raise JobRefused("park_skips: a transformer has no skip tensors: use auto")
        if job.tuning.stale_after is not None and job.scope.rotate:
            raise JobRefused(
                "rotate: global frames that move on are not those that stale context keeps: leave one of the two out"
            )

    def count_messages(self) -> int:
        """Return how many exchanges one call of a net makes."""
        return self.shape.num_layers

    def exchanges(self, job: Job) -> list[FrameLayer]:
        """Return the exchanges of one call on one branch of guidance, in no order."""
        return exchanges(self.shape, self._tokens(job), keys_values=job.tuning.travel == "keys_values")

    @property
    def decode_reach(self) -> int:
        """How many latents before its own the frames of a latent depend on."""
        return decode_reach(self.vae_sizes)

    @property
    def norm_groups(self) -> int:
        """The groups of group norms, whose moments travel with frames: there are none."""
        return 0

    def denoise_bytes(self, job: Job, latents: int, *, apart: bool, offload_skips: bool) -> int:
        """Return the bytes of activations that a call of a net on a clip keeps at once, besides those of a slice at work."""
        branches = 2 if job.most_guidance > 1 else 1
        travel = 2 if job.tuning.travel == "keys_values" else 1
        span = self.geometry.span(job)
        call = ClipCall(self.shape, self._tokens(job), span, latents, item=job.item_bytes, travel=travel)
        kept = 0 if job.tuning.stale_after is None else call.kept_bytes
        return (1 if apart else branches) * call.peak_bytes + branches * kept

    def skip_bytes(self, job: Job, latents: int, *, apart: bool) -> int:
        """Return the bytes of host memory that skip tensors take while they are offloaded: there are none."""
        return 0

    def decode_bytes(self, job: Job, frames: int) -> int:
        """Return the bytes that the VAE keeps at once while it decodes a clip: it goes latent by latent."""
        return job.item_bytes * decode_numbers(self.vae_sizes, job.height, job.width)

    def _tokens(self, job: Job) -> int:
        return self.shape.tokens(job.height // self.scale, job.width // self.scale)


def _read_pipeline(root: Path) -> Pipeline:
    """Return what a model's index says; a folder of a net alone has none."""
    index = root / "model_index.json"
    config = read_config(index) if index.is_file() else {}
    return checked(Pipeline, **{name: config[name] for name in Pipeline.model_fields if config.get(name) is not None})


def _trained_frames(root: Path, pipeline: Pipeline) -> int:
    """Return how many frames the clips had that a model was trained on."""
    if (root / TRAINING).is_file():
        said = read_config(root / TRAINING).get("trained_frames")
        if not isinstance(said, int) or not 1 <= said <= 10_000:
            raise JobRefused(f"{root / TRAINING}: trained_frames: wanted a number from 1 to 10000, got {json.dumps(said)}")
        return said
    return TRAINED_FRAMES_TIMED if pipeline.expand_timesteps else TRAINED_FRAMES


def _check_fit(shape: WanShape, vae: WanVAESizes, places: dict[str, Path]) -> None:
    """Raise JobRefused unless the parts, which may come from two folders, work together."""
    parts.check_class(places["vae"], VAES)
    parts.check_class(places["text_encoder"], TEXT_ENCODERS, TEXT_MODEL_TYPES)
    if shape.in_channels != shape.out_channels or shape.image_dim is not None:
        raise JobRefused(
            f"{places['transformer']} is a net for image-to-video (it wants {shape.in_channels} channels): this version makes videos "
            "from text: use a text-to-video model, or TI2V-5B"
        )
    if shape.patch_size[0] != 1:
        raise JobRefused(f"{places['transformer']}: patch_size: wanted 1 latent a token, got {shape.patch_size[0]}")
    if shape.in_channels != vae.z_dim:
        raise JobRefused(
            f"the transformer wants latents of {shape.in_channels} channels, {places['vae']} makes {vae.z_dim}: use another VAE"
        )
    if not len(vae.latents_mean) == len(vae.latents_std) == vae.z_dim:
        raise JobRefused(f"{places['vae']}: latents_mean, latents_std: wanted {vae.z_dim} numbers each: get the folder again")
    text = parts.read_sizes(TextSizes, places["text_encoder"])
    if shape.text_dim != text.d_model:
        raise JobRefused(
            f"the transformer wants prompts of width {shape.text_dim}, {places['text_encoder']} makes {text.d_model}: use the text "
            "encoder of its family"
        )
    if "transformer_2" in places:
        second = parts.read_sizes(WanShape, places["transformer_2"])
        if second != shape:
            raise JobRefused(f"{places['transformer_2']} has other sizes than {places['transformer']}: get the folder again")
