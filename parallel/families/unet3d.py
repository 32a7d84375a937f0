"""The host half of `UNet3DConditionModel`: ModelScope, ZeroScope, VideoCrafter2 conversions, and the bundled model.

What its folder holds, how frames become latents, which schedulers suit it, and what a job takes: for another family copy this
file. The formulas of its net are in unet_shape.py. Its rank half is models/unet3d.py and, as yet, a part of the sampler (table.py).
"""

import re
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from ..job.errors import JobRefused
from ..job.files import Lora
from ..job.job import DType, Frozen, Job, checked
from . import lora, parts, unet_lora, weight_files
from .family import Family
from .frame_layer import FrameLayer
from .geometry import Geometry
from .latent_format import LatentFormat
from .lora import LoraFile
from .lora_memory import LoraBytes
from .parts import Part, Place
from .pinning import Pinning
from .safety import read_config
from .unet_shape import UNetShape, count_messages, exchanges, peak_numbers, skip_numbers

VAES = ("AutoencoderKL",)
# CLIPTextModel is also loaded out of the larger models that it is a part of.
TEXT_ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel")
TEXT_MODEL_TYPES = ("clip_text_model", "clip")  # of a text encoder whose configuration names no class
TOKENIZER = (("tokenizer.json",), ("vocab.json", "merges.txt"))
BLOCK = re.compile(r"(down_blocks\.\d+|mid_block|up_blocks\.\d+)\.")  # how the names of its weights begin
DECODER_TENSORS = 7  # of a frame's full size that are alive at once while the VAE decodes


class UNetEnds(Frozen):
    """The sizes of a UNet that its other parts must fit, and what it was trained on."""

    in_channels: int = Field(4, ge=1)
    cross_attention_dim: int = 1024
    sample_size: int | tuple[int, int] | None = None
    fps_cond: bool = False


class VAESizes(Frozen):
    """The sizes of a VAE, under diffusers' names and with its defaults."""

    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = Field((64,), min_length=1)
    scaling_factor: float = Field(0.18215, gt=0, allow_inf_nan=False)


class TextSizes(Frozen):
    """The sizes of a text encoder."""

    hidden_size: int = 512


class Training(Frozen):
    """What a net was trained on, and what therefore suits it."""

    guidance_scale: float = Field(9.0, ge=0, le=100, allow_inf_nan=False)  # the default of diffusers' own pipeline


class UNet3D(Family):
    """An inspected model of this family."""

    net: ClassVar[str] = "unet"
    parts_with_weights: ClassVar[tuple[str, ...]] = ("unet", "vae", "text_encoder")
    schedulers: ClassVar[dict[str, str]] = {
        "ddim": "DDIMScheduler",
        "dpmpp_2m": "DPMSolverMultistepScheduler",
        "uni_pc": "UniPCMultistepScheduler",
        "euler": "EulerDiscreteScheduler",
        "euler_ancestral": "EulerAncestralDiscreteScheduler",
    }
    fps: ClassVar[float] = 8.0  # of what such models were trained on
    half: ClassVar[DType] = "float16"  # the type of half precision that suits it
    usual_sizes: ClassVar[tuple[str, ...]] = ()  # its configuration names its own
    joins_branches: ClassVar[bool] = True  # a rank by itself makes both branches of guidance in one call
    shares_text: ClassVar[bool] = False  # its text encoder is small: each rank loads it
    decoded_at_once: ClassVar[int] = 8  # frames: what the decoder does, and what a plan reckons with

    family: Literal["UNet3DConditionModel"] = "UNet3DConditionModel"
    text_encoder: Place
    tokenizer: Place
    unet: Place
    unet_shape: UNetShape
    text_width: int  # numbers of a prompt's token, as the net takes it
    vae_channels: int  # of its layers at full size
    scaling_factor: float = Field(gt=0, allow_inf_nan=False)  # the VAE's raw latents times it are what the net sees
    own_size: tuple[int, int] | None  # height and width in pixels that its configuration names
    fps_cond: bool
    guidance_scale: float  # what suits it, where nobody says

    @classmethod
    def read(cls, places: dict[str, Path]) -> "UNet3D":
        """Return the model whose parts lie in some folders; raise JobRefused unless they are whole and work together."""
        parts.check_tokenizer(places["tokenizer"], TOKENIZER)
        ends, vae = parts.read_sizes(UNetEnds, places["unet"]), parts.read_sizes(VAESizes, places["vae"])
        _check_fit(ends, vae, places)
        scheduler = read_config(places["scheduler"] / "scheduler_config.json")
        scale = 2 ** (len(vae.block_out_channels) - 1)
        return checked(
            cls,
            **places,
            scheduler_class=parts.class_of(places["scheduler"], scheduler),
            solver_order=scheduler.get("solver_order", 2),
            unet_shape=parts.read_sizes(UNetShape, places["unet"]),
            text_width=ends.cross_attention_dim,
            vae_channels=vae.block_out_channels[0],
            latent_channels=ends.in_channels,
            geometry=Geometry(scale=scale),
            scaling_factor=vae.scaling_factor,
            own_size=_own_size(ends.sample_size, scale),
            fps_cond=ends.fps_cond,
            guidance_scale=parts.read_known(places["unet"].parent / parts.TRAINING, Training()).guidance_scale,
        )

    @property
    def pinning(self) -> Pinning:
        """How it takes frames that are given: it knows of none."""
        return Pinning.REPLACED

    @property
    def latent_format(self) -> LatentFormat:
        """What the net's latents are to the VAE's."""
        return LatentFormat(mean=(0.0,), std=(1 / self.scaling_factor,))

    @property
    def size_step(self) -> int:
        """What height and width must be multiples of, in pixels."""
        return self.scale

    def net_at(self, timestep: float) -> int:
        """Return the number of the net that is at work at a timestep: there is one."""
        return 0

    def scheduler_settings(self, kind: str, config: dict[str, Any], shift: float | None) -> dict[str, Any]:
        """Return what a scheduler of a class has in place of the folder's configuration."""
        return {}

    def lora_remarks(self, loras: tuple[Lora, ...]) -> list[str]:
        """Return what a plan says of LoRAs; raise JobRefused if one can't be put into this model."""
        return lora.remarks(loras, self.read_lora, nets=1)

    def read_lora(self, file: str) -> LoraFile:
        return unet_lora.read(file, self.unet)

    def check(self, job: Job) -> None:
        """Raise JobRefused if a job asks for what this family can't do."""
        if job.guidance_scale_2 is not None:
            raise JobRefused("cfg_low_noise, the second of --guidance: this model has one net: leave it out")
        if job.num_inference_steps:
            self.lora_remarks(job.loras)
        if job.shift is not None:
            raise JobRefused("shift: this model's schedule is not one of flow matching, and has no shift: leave it out")
        if job.tuning.travel != "auto":
            raise JobRefused("travel: it is of 3D attention, which this model has not: use auto")
        if job.scope.rotate or job.scope.full_windows or job.scope.places != "near":
            raise JobRefused("places, rotate, full_windows: they are of 3D attention, which this model has not: leave them out")

    def remarks(self, job: Job) -> list[str]:
        """Return what else a plan says of a job: its LoRAs."""
        return self.lora_remarks(job.loras) if job.num_inference_steps else []

    def count_messages(self) -> int:
        """Return how many exchanges one UNet call makes."""
        return count_messages(self.unet_shape)

    def exchanges(self, job: Job) -> list[FrameLayer]:
        """Return the exchanges of one UNet call on one branch of guidance, in no order."""
        return exchanges(self.unet_shape, job.height // self.scale, job.width // self.scale)

    @property
    def decode_reach(self) -> int:
        """How many latents before its own the frames of a latent depend on: none, of a VAE for pictures."""
        return 0

    @property
    def norm_groups(self) -> int:
        """The groups of the UNet's group norms, whose moments travel with frames."""
        return self.unet_shape.norm_num_groups

    def block_bytes(self, part: Part, job: Job, loras: LoraBytes) -> list[int]:
        if part != self.unet:
            return []
        return [job.item_bytes * numbers for numbers in weight_files.count_blocks(self.unet, BLOCK)]

    def denoise_bytes(self, job: Job, latents: int, *, apart: bool, offload_skips: bool) -> int:
        """Return the bytes of activations that a UNet call on a clip keeps at once, besides those of a slice at work.

        With `apart` guidance's branches run one at a time; with `offload_skips` skip tensors wait in host memory.
        """
        pixels = self._latent_pixels(job)
        numbers = peak_numbers(self.unet_shape, pixels, offload_skips=offload_skips)
        if job.tuning.reuse_every > 1:  # what the deep layers made is kept, for both branches
            numbers += self.unet_shape.block_out_channels[:2][-1] * pixels * (2 if apart else 1)
        return latents * _branches(job, apart=apart) * job.item_bytes * numbers

    def skip_bytes(self, job: Job, latents: int, *, apart: bool) -> int:
        """Return the bytes of host memory that the skip tensors of a clip take on a rank while they are offloaded.

        They wait in pinned blocks, so that a GPU copies without the CPU, and torch rounds each up to a power of two.
        """
        sizes = [latents * job.item_bytes * numbers for numbers in skip_numbers(self.unet_shape, self._latent_pixels(job))]
        return _branches(job, apart=apart) * sum(1 << (size - 1).bit_length() for size in sizes)

    def decode_bytes(self, job: Job, frames: int) -> int:
        """Return the bytes that the VAE keeps at once while it decodes a clip: a few frames at full size are alive."""
        tensors = min(frames, self.decoded_at_once) * DECODER_TENSORS * self.vae_channels
        return tensors * job.height * job.width * job.item_bytes

    def _latent_pixels(self, job: Job) -> int:
        return (job.height // self.scale) * (job.width // self.scale)


def _check_fit(unet: UNetEnds, vae: VAESizes, places: dict[str, Path]) -> None:
    """Raise JobRefused unless the parts, which may come from two folders, work together."""
    parts.check_class(places["vae"], VAES)
    parts.check_class(places["text_encoder"], TEXT_ENCODERS, TEXT_MODEL_TYPES)
    if unet.in_channels != vae.latent_channels:
        raise JobRefused(
            f"the UNet wants latents of {unet.in_channels} channels, {places['vae']} makes {vae.latent_channels}: use another VAE"
        )
    text = parts.read_sizes(TextSizes, places["text_encoder"])
    if unet.cross_attention_dim != text.hidden_size:
        raise JobRefused(
            f"the UNet wants prompts of width {unet.cross_attention_dim}, {places['text_encoder']} makes {text.hidden_size}: use "
            "the text encoder of its family"
        )


def _own_size(sample_size: int | tuple[int, int] | None, scale: int) -> tuple[int, int] | None:
    """Return the height and width in pixels that a UNet's `sample_size` (one number for both, or two) stands for."""
    height, width = sample_size if isinstance(sample_size, tuple) else (sample_size, sample_size)
    return (height * scale, width * scale) if height and width else None


def _branches(job: Job, *, apart: bool) -> int:
    """Return how many branches are alive at once: two, in one call or in calls that take turns, or one."""
    return 1 if apart else job.branches
