"""The host half of `WanTransformer3DModel`: Wan 2.1 and 2.2 from text or images, with one net or two, and the bundled small one.

What its folder holds, how frames become latents, which schedulers suit it, and what a job takes. The formulas of its net and
VAE are in wan_shape.py and wan_vae_shape.py. Its rank half is models/wan.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from ..job.errors import JobRefused
from ..job.files import Lora, ModelFiles
from ..job.job import DType, Job, checked
from . import flow, lora, parts, wan_files, wan_fit, wan_lora, wan_names, wan_parts
from .family import Family
from .frame_layer import FrameLayer
from .geometry import Geometry
from .latent_format import LatentFormat
from .lora import LoraFile
from .lora_memory import LoraBytes
from .parts import Part, Place
from .pinning import Pinning
from .safety import read_config
from .single_file import Role, SingleFile
from .wan_index import Pipeline, Training, known_of_files, read_pipeline, read_training
from .wan_pictures import Looking, read_looking
from .wan_shape import FLOAT32, ClipCall, WanShape, exchanges
from .wan_vae_shape import WanVAESizes, decode_numbers, decode_reach

TRAIN_TIMESTEPS = 1000


class Wan(Family):
    """An inspected model of this family."""

    net: ClassVar[str] = "transformer"
    optional_parts: ClassVar[tuple[str, ...]] = ("transformer_2", "image_encoder", "image_processor")
    parts_with_weights: ClassVar[tuple[str, ...]] = ("transformer", "transformer_2", "vae", "text_encoder", "image_encoder")
    schedulers: ClassVar[dict[str, str]] = {
        "euler": "FlowMatchEulerDiscreteScheduler",
        "uni_pc": "UniPCMultistepScheduler",
        "dpmpp_2m": "DPMSolverMultistepScheduler",
    }
    half: ClassVar[DType] = "bfloat16"  # the type of half precision that suits it: that of its released weights
    joins_branches: ClassVar[bool] = False  # guidance's branches are calls of their own, as in diffusers' pipeline
    shares_text: ClassVar[bool] = True  # its text encoder has 11 GB: one rank of a machine loads it

    family: Literal["WanTransformer3DModel"] = "WanTransformer3DModel"
    transformer: Part
    transformer_2: Part | None = None
    image_encoder: Part | None = None
    image_processor: Place | None = None
    shape: WanShape
    vae_sizes: WanVAESizes
    training: Training
    own_shift: float = Field(gt=0, le=100, allow_inf_nan=False)  # of its schedule
    boundary_ratio: float | None = None
    has_time_of_each: bool = False  # each latent its own: of TI2V-5B
    looking: Looking | None = None  # at pictures, of a net that takes their tokens

    @classmethod
    def read(cls, places: Mapping[str, Part]) -> "Wan":
        """Return the model whose parts lie in some folders or files; raise JobRefused unless they are whole and work together."""
        shape, vae = parts.read_sizes(WanShape, places["transformer"]), parts.read_sizes(WanVAESizes, places["vae"])
        wan_fit.check(shape, vae, places)
        settings = places["scheduler"]
        assert isinstance(settings, Path), "it has no weights, and is a folder"
        scheduler = read_config(settings / "scheduler_config.json")
        wan_fit.check_schedule(settings / "scheduler_config.json", scheduler)
        pipeline, training = _about(shape, places)
        if (pipeline.boundary_ratio is None) != ("transformer_2" not in places):
            got = "transformer_2" if pipeline.boundary_ratio is None else "boundary_ratio"
            raise JobRefused(
                f"{parts.said_by(places['transformer']).parents[1]}: wanted transformer_2 together with boundary_ratio in model_index.json, which says "
                f"from where on it is at work, got {got} alone: get the folder again"
            )
        looking = read_looking(shape, places)
        if looking is None:  # a folder may have parts that its net has no use for
            places = {name: place for name, place in places.items() if name not in ("image_encoder", "image_processor")}
        packing = {"scale": vae.scale_factor_spatial, "frames_per_latent": vae.scale_factor_temporal}
        return checked(
            cls,
            **places,
            scheduler_class=parts.class_of(settings, scheduler),
            solver_order=scheduler.get("solver_order", 2),
            shape=shape,
            vae_sizes=vae,
            latent_channels=vae.z_dim,
            geometry=Geometry.trained_on(training.trained_frames, **packing),
            training=training,
            own_shift=scheduler.get("flow_shift") or scheduler.get("shift") or 1.0,
            boundary_ratio=pipeline.boundary_ratio,
            has_time_of_each=pipeline.expand_timesteps,
            looking=looking,
        )

    @classmethod
    def read_files(cls, model: Path, files: ModelFiles, parts_folder: str | None) -> "Wan | None":
        """Return the model whose net is in a file, None if that holds none of this family; raise JobRefused if it can't be run."""
        net = wan_files.find_net(model)
        return None if net is None else cls.read(wan_parts.find_parts(net, files, parts_folder))

    @classmethod
    def roles_in(cls, file: Path) -> frozenset[Role]:
        """Return what of a model of this family a file can be; raise JobRefused if that can't be read."""
        return wan_files.roles_in(file)

    @property
    def latent_format(self) -> LatentFormat:
        """What the net's latents are to the VAE's."""
        return LatentFormat(mean=self.vae_sizes.latents_mean, std=self.vae_sizes.latents_std, is_video=True)

    @property
    def text_width(self) -> int:
        """Numbers of a prompt's token, as the net takes it."""
        return self.shape.text_dim

    @property
    def size_step(self) -> int:
        """What height and width must be multiples of, in pixels: a token is a patch of latent pixels."""
        return self.scale * self.shape.patch_size[1]

    @property
    def pinning(self) -> Pinning:
        """How it takes frames that are given."""
        if self.shape.condition_channels:
            return Pinning.CHANNELS
        return Pinning.OWN_TIME if self.has_time_of_each else Pinning.REPLACED

    @property
    def picture_tokens(self) -> tuple[int, int | None, int] | None:
        """The shape (F, L, D) of the tokens of pictures that the net takes beside a prompt's: of 2.1 from images."""
        looking = self.looking
        return None if looking is None else (looking.pictures, looking.tokens, looking.width)

    @property
    def is_blind(self) -> bool:
        return self.looking is not None and self.image_encoder is None

    @property
    def own_size(self) -> tuple[int, int] | None:
        """Height and width in pixels of what it was trained on, if its folder says so: released ones do not."""
        return self.training.size

    @property
    def trained_sizes(self) -> tuple[tuple[int, int], ...]:
        named = [each.split("x") for each in self.usual_sizes]
        return (self.own_size,) if self.own_size else tuple((int(height), int(width)) for width, height in named)

    @property
    def usual_sizes(self) -> tuple[str, ...]:
        """Sizes that people make with it, width x height, where its folder names none."""
        return self.training.usual_sizes

    @property
    def fps(self) -> float:
        """Frames a second of what it was trained on."""
        return self.training.fps

    @property
    def guidance_scale(self) -> float:
        """What guidance suits it, where nobody says."""
        return self.training.guidance_scale

    def net_at(self, timestep: float) -> int:
        """Return the number of the net that is at work at a timestep: the first one where there is much noise."""
        return int(self.boundary_ratio is not None and timestep < self.boundary_ratio * TRAIN_TIMESTEPS)

    def scheduler_settings(self, kind: str, config: dict[str, Any], shift: float | None) -> dict[str, Any]:
        """Return what a scheduler of a class has in place of the folder's configuration: its schedule is one of flow matching."""
        moved = shift or self.own_shift
        if kind == "FlowMatchEulerDiscreteScheduler":
            return {"shift": moved}
        return {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": moved}

    def check(self, job: Job) -> None:
        """Raise JobRefused if a job asks for what this family can't do."""
        if self.transformer_2 is None and job.guidance_scale_2 is not None:
            raise JobRefused("cfg_low_noise, the second of --guidance: this model has one net: leave it out")
        if job.num_inference_steps:
            self._check_keyframes(job)
            self.lora_remarks(job.loras)
        if job.tuning.reuse_every > 1:
            raise JobRefused("reuse_every: a transformer has no outermost blocks that could run alone: use 1")
        if job.tuning.park_skips == "always":
            raise JobRefused("park_skips: a transformer has no skip tensors: use auto")
        if job.tuning.stale_after is not None and job.scope.rotate:
            raise JobRefused(
                "rotate: global frames that move on are not those that stale context keeps: leave one of the two out"
            )

    def _check_keyframes(self, job: Job) -> None:
        wanted = 0 if self.pinning is not Pinning.CHANNELS else 1 if self.looking is None else self.looking.pictures
        if job.given_frames < wanted:
            what = (
                "an image (a Keyframes node, or --image FILE@0)"
                if wanted == 1
                else "a first and a last image (a Keyframes node with 0, last; or --image FILE@0 --image FILE@last)"
            )
            raise JobRefused(f"keyframes: this model makes videos from images, got {job.given_frames}: give it {what}")

    def remarks(self, job: Job) -> list[str]:
        """Return what else a plan says of a job: which net is at work when."""
        if not job.num_inference_steps:
            return []
        return [*self._net_remarks(job), *self.lora_remarks(job.loras)]

    def lora_remarks(self, loras: tuple[Lora, ...]) -> list[str]:
        """Return what a plan says of LoRAs; raise JobRefused if one can't be put into this model."""
        nets = 1 if self.transformer_2 is None else 2
        return lora.remarks(loras, self.read_lora, nets=nets)

    def read_lora(self, file: str) -> LoraFile:
        return wan_lora.read(file, self.shape)

    def _net_remarks(self, job: Job) -> list[str]:
        if self.transformer_2 is None:
            return []
        kind = self.scheduler_class if job.scheduler == "model" else self.schedulers[job.scheduler]
        noise = flow.noise_levels(kind, job.num_inference_steps, job.shift or self.own_shift)[job.skipped_steps :]
        first = sum(self.net_at(TRAIN_TIMESTEPS * level) == 0 for level in noise)
        scales = f"cfg {job.guidance_of(0):g}, then {job.guidance_of(1):g}"
        return [
            f"nets: the one for high noise makes {first} steps, the one for low noise the other {len(noise) - first} ({scales})"
        ]

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

    def block_bytes(self, part: Part, job: Job, loras: LoraBytes) -> list[int]:
        if part not in self.nets:
            return []
        sizes = [job.item_bytes * self.shape.block_numbers] * self.shape.num_layers
        less = {name: weight.bytes - job.item_bytes * weight.numbers for name, weight in parts.held(part).items()}
        for name, change in (*less.items(), *loras.beside.items()):
            number = wan_names.block_of(name)
            if number is not None:
                sizes[number] += change
        return sizes

    def denoise_bytes(self, job: Job, latents: int, *, apart: bool, offload_skips: bool) -> int:
        """Return the bytes of activations that a call of a net on a clip keeps at once, besides those of a slice at work."""
        travel = 2 if job.tuning.travel == "keys_values" else 1
        span = self.geometry.span(job)
        call = ClipCall(self.shape, self._tokens(job), span, latents, item=job.item_bytes, travel=travel)
        kept = 0 if job.tuning.stale_after is None else call.kept_bytes
        peak = max(call.peak_with(parts.held(net)) for net in self.nets)
        waiting = 0 if apart else (job.branches - 1) * call.peak_bytes
        return peak + waiting + job.branches * kept + self._condition_bytes(job, latents)

    def skip_bytes(self, job: Job, latents: int, *, apart: bool) -> int:
        """Return the bytes of host memory that skip tensors take while they are offloaded: there are none."""
        return 0

    def decode_bytes(self, job: Job, frames: int) -> int:
        """Return the bytes that the VAE keeps at once while it decodes a clip: it goes latent by latent."""
        return job.item_bytes * decode_numbers(self.vae_sizes, job.height, job.width)

    def _condition_bytes(self, job: Job, latents: int) -> int:
        """Return the bytes of what a clip's net sees beside its latents: once, and again after each strength's end."""
        pixels = (job.height // self.scale) * (job.width // self.scale)
        conditions = 1 + len({each.strength for each in job.keyframes if each.strength < 1})
        return conditions * latents * self.shape.condition_channels * pixels * FLOAT32

    def _tokens(self, job: Job) -> int:
        return self.shape.tokens(job.height // self.scale, job.width // self.scale)


def _about(shape: WanShape, places: Mapping[str, Part]) -> tuple[Pipeline, Training]:
    """Return what a model's folder says beside its parts; of single files, what is known of nets of their shape."""
    net = places["transformer"]
    if isinstance(net, SingleFile):
        return known_of_files(shape, two_nets="transformer_2" in places)
    pipeline = read_pipeline(net.parent)
    return pipeline, read_training(net.parent, pipeline)
