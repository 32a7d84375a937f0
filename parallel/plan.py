"""What a job will do, before anything runs: clips by rank, what a frame sees and hears, messages, memory."""

from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from . import folder
from .folder import ModelFolder, UNetShape
from .maths import clips, prompts, scope, slices
from .protocol import DECODED_AT_ONCE, Job

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Sight:
    """What one frame attends to, as frame numbers."""

    frame: int
    near: tuple[int, ...]  # the local scope, the frame itself included
    spread: tuple[int, ...]  # the global scope, those in the local one left out
    fetched: int  # how many of them belong to other ranks


@dataclass(frozen=True)
class Memory:
    """Estimated bytes on one rank."""

    weights: int
    denoise: int  # on top of the weights
    decode: int

    @property
    def peak(self) -> int:
        """The most that is in use at once."""
        return self.weights + max(self.denoise, self.decode)


@dataclass(frozen=True)
class Plan:
    """A job on some number of ranks."""

    job: Job
    clips: tuple[range, ...]
    messages_a_call: int  # that a rank sends or joins in one UNet call
    memory: Memory  # of the rank with the longest clip
    shared_bytes: int  # the IMAGE, in host memory

    def sight(self, frame: int) -> Sight:
        """Return what a frame attends to."""
        job = self.job
        span = scope.Span(job.frames, job.scope.local_context, job.scope.global_frames, job.loop)
        keys = scope.keys(range(frame, frame + 1), span)
        kinds = scope.kinds(range(frame, frame + 1), keys, span)[0].tolist()
        near, spread = (tuple(k for k, kind in zip(keys, kinds) if kind == want) for want in (scope.LOCAL, scope.GLOBAL))
        home = next(clip for clip in self.clips if frame in clip)
        return Sight(frame, near, spread, sum(key not in home for key in near + spread))

    def hears(self, frame: int) -> tuple[int, int, float]:
        """Return (number of the prompt before, number of the prompt now, share of the prompt now)."""
        starts = tuple(prompt.frame for prompt in self.job.prompts)
        return prompts.hear(frame, prompts.Timeline(self.job.frames, starts, self.job.fade, self.job.loop))


def plan(job: Job, ranks: int) -> Plan:
    """Return the plan of a job; raise JobRefused if it can't be run on so many ranks."""
    model = folder.check(job, ranks)
    cut = clips.cut(job.frames, ranks)
    return Plan(
        job=job,
        clips=cut,
        messages_a_call=count_messages(model.unet_shape) if ranks > 1 else 0,
        memory=estimate_memory(model, job, len(cut[0])),
        shared_bytes=job.frames * job.height * job.width * 3 * 4,
    )


def count_messages(shape: UNetShape) -> int:
    """Return the exchanges of one UNet call: one a convolution with its norm, one an attention, the first with its norm."""
    layers = shape.frame_layers()
    return layers["convolution"] + layers["attention"]


def estimate_memory(model: ModelFolder, job: Job, frames: int) -> Memory:
    """Estimate a rank's memory for a clip of `frames` frames, from the sizes in the model's configuration alone.

    While the UNet runs, the most lives where its last stage begins: what came from below, twice (once joined with a skip
    tensor), all skip tensors of the stage, and the first result; or in the first temporal layer. While the VAE decodes: a few
    frames at full size.
    """
    item = ITEM_BYTES[job.dtype]
    parts = [item * count_parameters(part) for part in (model.unet, model.vae, model.text_encoder)]
    pixels = (job.height // model.scale) * (job.width // model.scale)
    branches = 2 if job.guidance_scale > 1 else 1
    shape = model.unet_shape
    width, below = shape.block_out_channels[0], shape.block_out_channels[:2][-1]
    numbers = max(2 * below + (shape.layers_per_block + 3) * width, 3 * width + 8 * shape.attention_head_dim) * pixels
    denoise = frames * branches * item * numbers + slices.CPU_BYTES
    decode = min(frames, DECODED_AT_ONCE) * item * 7 * model.vae_channels * job.height * job.width
    return Memory(max(parts) if job.offload == "parts" else sum(parts), denoise, decode)


def skip_numbers(shape: UNetShape, pixels: int) -> int:
    """Return how many numbers the skip tensors of one frame hold, of `pixels` latent pixels."""
    channels = shape.block_out_channels
    numbers = channels[0] * pixels
    for level, width in enumerate(channels):
        numbers += shape.layers_per_block * width * (pixels >> 2 * level)
        if level + 1 < len(channels):
            numbers += width * (pixels >> 2 * (level + 1))
    return numbers


def count_parameters(part: Path) -> int:
    """Return how many numbers a part's weights hold, from the headers of its files."""
    total = 0
    for file in folder.weight_files(part):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 (safe_open is no mapping)
                size = 1
                for length in weights.get_slice(name).get_shape():
                    size *= length
                total += size
    return total
