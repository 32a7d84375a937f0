"""What the host halves of all families have in common: four parts beside the net, a geometry, a scheduler; and what follows from them."""

from typing import ClassVar

from pydantic import Field

from ..job.job import Frozen, Job
from ..maths.slices import BLOCKS_AT_ONCE
from . import lora_memory, parts
from .geometry import Geometry
from .lora import LoraFile
from .lora_memory import LoraBytes
from .parts import Part, Place


class Family(Frozen):
    """An inspected model: where its parts are, the numbers that a job is checked against, and what a job takes.

    It travels with the job to the ranks as JSON: nobody reads the folder's configuration again.
    """

    net: ClassVar[str]  # the folder of what denoises
    other_parts: ClassVar[tuple[str, ...]] = ("vae", "text_encoder", "tokenizer", "scheduler")
    optional_parts: ClassVar[tuple[str, ...]] = ()
    parts_with_weights: ClassVar[tuple[str, ...]]
    # The job's names, which are ComfyUI's, for diffusers' classes. They act on each element alone, so that a slice of the video
    # is stepped as the whole would be. Any other class might draw noise by batch or look across frames, and is refused by name.
    schedulers: ClassVar[dict[str, str]]

    vae: Part
    text_encoder: Part | None = None  # of files, where the prompts come encoded with each job
    tokenizer: Part | None = None
    scheduler: Place
    scheduler_class: str
    solver_order: int = Field(ge=1, le=3)
    latent_channels: int
    geometry: Geometry

    @property
    def scale(self) -> int:
        """Pixels of a frame for one latent pixel."""
        return self.geometry.scale

    @property
    def weighty(self) -> tuple[Part, ...]:
        """The parts that have weights."""
        found = (getattr(self, name) for name in self.parts_with_weights)
        return tuple(part for part in found if part is not None)

    @property
    def nets(self) -> tuple[Part, ...]:
        """The parts that denoise."""
        found = (getattr(self, name) for name in self.parts_with_weights if name.startswith(self.net))
        return tuple(part for part in found if part is not None)

    def read_lora(self, file: str) -> LoraFile:
        """Return what a LoRA changes of a net; raise JobRefused if it can't be put into it."""
        raise NotImplementedError

    def lora_bytes(self, part: Part, job: Job) -> LoraBytes:
        """Return what a job's LoRAs take in memory, of one part; raise JobRefused if one can't be put into it."""
        if part not in self.nets or not job.num_inference_steps:
            return LoraBytes()
        return lora_memory.count(
            job.loras, self.read_lora, net=self.nets.index(part), held=parts.held(part), item=job.item_bytes
        )

    def weight_bytes(self, part: Part, job: Job, loras: LoraBytes) -> int:
        """Return the bytes of a part's weights, and of what LoRAs have beside them."""
        return parts.count_bytes(part, job.item_bytes) + loras.branches

    def block_bytes(self, part: Part, job: Job, loras: LoraBytes) -> list[int]:
        """Return the same of each block of a net; of a part without blocks nothing."""
        return []

    def bytes_at_once(self, part: Part, job: Job, loras: LoraBytes) -> int:
        """Return how many of these bytes are on a device while the blocks of nets wait in host memory: a few slots for any block."""
        blocks = self.block_bytes(part, job, loras)
        slots = min(BLOCKS_AT_ONCE, len(blocks)) * max(blocks, default=0)
        return self.weight_bytes(part, job, loras) - sum(blocks) + slots

    def encode_bytes(self, job: Job) -> int:
        """Return the bytes of the numbers that a layer of the text encoder makes of its weights, if they are held."""
        return max((weight.making_bytes(job.item_bytes) for weight in parts.held(self.text_encoder).values()), default=0)

    @property
    def picture_tokens(self) -> tuple[int, int | None, int] | None:
        """The shape (F, L, D) of the tokens of pictures that the net takes beside a prompt's, L None: any; None if it takes none."""
        return None

    @property
    def trained_sizes(self) -> tuple[tuple[int, int], ...]:
        """Heights and widths in pixels of what it was trained on; none where nobody says."""
        return ()

    @property
    def missing(self) -> list[str]:
        """What it was given no part for, and what to connect instead, in words."""
        said = []
        if self.text_encoder is None:
            said.append("no text encoder: choose one, or connect clip to the sampler")
        if self.is_blind:
            said.append("no CLIP vision: choose one, or connect clip_vision_output to the sampler")
        return said

    @property
    def is_blind(self) -> bool:
        """Whether it takes tokens of pictures, and has nothing that makes them: they come with each job."""
        return False

    def latents_shape(self, job: Job) -> tuple[int, int, int, int]:
        """Return the shape (C, T, h, w) of a job's latents."""
        return self.geometry.latents_shape(self.latent_channels, frames=job.frames, height=job.height, width=job.width)

    def history(self, scheduler: str) -> int:
        """Return how many tensors of the latents' size a scheduler, by the job's name for it, remembers between steps."""
        kind = self.schedulers.get(scheduler, self.scheduler_class)
        return self.solver_order * kind.endswith("MultistepScheduler") + kind.startswith("UniPC")
