"""What a job will do, before anything runs: clips by rank, what a frame sees and hears, messages, memory."""

import math
from dataclasses import dataclass

from .families import folder, weight_files
from .families.folder import ModelFolder, UNetShape
from .job.job import DECODED_AT_ONCE, Job
from .maths import clips, prompts, scope, slices

FEWEST, MOST = 0.75, 2.5  # times the trained number of keys; the nearest that slowed motion in docs/quality.md: 0.6 and 3.8
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
    offloaded: int  # in host memory: weights that wait there
    parked: int  # in host memory: skip tensors, if they wait there

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
        keys, span = keys_of(job, frame), span_of(job)
        kinds = scope.kinds(range(frame, frame + 1), keys, span)[0].tolist()
        near, spread = (tuple(k for k, kind in zip(keys, kinds) if kind == want) for want in (scope.LOCAL, scope.GLOBAL))
        home = next(clip for clip in self.clips if frame in clip)
        return Sight(frame, near, spread, sum(key not in home for key in near + spread))

    def hears(self, frame: int) -> tuple[int, int, float]:
        """Return (number of the prompt before, number of the prompt now, share of the prompt now)."""
        starts = tuple(prompt.frame for prompt in self.job.prompts)
        return prompts.at(frame, prompts.Timeline(self.job.frames, starts, self.job.fade, self.job.loop))


def span_of(job: Job) -> scope.Span:
    """Return how far the frames of a job see."""
    return scope.Span(job.frames, job.scope.local_context, job.scope.global_frames, job.loop)


def keys_of(job: Job, frame: int) -> tuple[int, ...]:
    """Return the frames that one attends to, ascending; one that is near and spread counts once."""
    return scope.keys(range(frame, frame + 1), span_of(job))


def plan(job: Job, ranks: int) -> Plan:
    """Return the plan of a job; raise JobRefused if it can't be run on so many ranks."""
    model = folder.check(job, ranks)
    cut = clips.cut(job.frames, ranks)
    return Plan(
        job=job,
        clips=cut,
        messages_a_call=count_messages(model.unet_shape) if ranks > 1 else 0,
        memory=estimate_memory(model, job, len(cut[0])),
        shared_bytes=image_bytes(job),
    )


def keys_notice(job: Job) -> str | None:
    """Return a sentence if frames attend to many more, or fewer, frames than a model is trained on; None if they do not."""
    trained, keys = job.scope.model_frames, len(keys_of(job, job.frames // 2))
    if job.frames <= trained or FEWEST * trained <= keys <= MOST * trained:
        return None
    return (
        f"a frame attends to {keys} frames; a model that was trained on {trained} wants {math.ceil(FEWEST * trained)} to "
        f"{math.floor(MOST * trained)}: change local_context or global_frames if things move too slowly, or say as model_frames "
        "what it was trained on"
    )


def count_messages(shape: UNetShape) -> int:
    """Return the exchanges of one UNet call: one a convolution with its norm, one an attention, the first with its norm."""
    layers = shape.frame_layers()
    return layers["convolution"] + layers["attention"]


def estimate_memory(model: ModelFolder, job: Job, frames: int) -> Memory:
    """Estimate a rank's memory for a clip of `frames` frames, from the sizes in the model's configuration alone.

    Where the job leaves it to the rank, branches go together and skip tensors stay, as they do when there is room.
    While the VAE decodes, a few frames at full size are alive.
    """
    item = ITEM_BYTES[job.dtype]
    parts = [item * weight_files.count_numbers(part) for part in (model.unet, model.vae, model.text_encoder)]
    apart, park = job.tuning.branches == "apart", job.tuning.park_skips == "always"
    shape, scale = model.unet_shape, model.scale
    offloads = job.offload == "parts"
    return Memory(
        weights=max(parts) if offloads else sum(parts),
        denoise=estimate_denoise(shape, scale, job, frames, apart=apart, park=park) + slices.CPU_BYTES,
        decode=min(frames, DECODED_AT_ONCE) * item * 7 * model.vae_channels * job.height * job.width,
        offloaded=sum(parts) if offloads else 0,
        parked=0 if job.tuning.park_skips == "never" else estimate_parked(shape, scale, job, frames, apart=apart),
    )


def image_bytes(job: Job) -> int:
    """Return the size of the IMAGE that a job makes, in float32; 0 if it does not decode."""
    return job.frames * job.height * job.width * 3 * 4 if job.decode else 0


def estimate_denoise(shape: UNetShape, scale: int, job: Job, frames: int, *, apart: bool, park: bool) -> int:
    """Return the bytes of activations that a clip's UNet call keeps at once, besides those of a slice at work."""
    pixels = (job.height // scale) * (job.width // scale)
    numbers = call_numbers(shape, pixels, park=park)
    if job.tuning.reuse_every > 1:  # what the deep layers made is kept, for both branches
        numbers += shape.block_out_channels[:2][-1] * pixels * (2 if apart else 1)
    return frames * _branches(job, apart=apart) * ITEM_BYTES[job.dtype] * numbers


def estimate_parked(shape: UNetShape, scale: int, job: Job, frames: int, *, apart: bool) -> int:
    """Return the bytes of host memory that the skip tensors of a clip take on a rank while they are parked.

    They wait in pinned blocks, so that a GPU copies without the CPU, and torch rounds each up to a power of two.
    """
    pixels = (job.height // scale) * (job.width // scale)
    sizes = [frames * ITEM_BYTES[job.dtype] * numbers for numbers in skip_numbers(shape, pixels)]
    return _branches(job, apart=apart) * sum(1 << (size - 1).bit_length() for size in sizes)


def _branches(job: Job, *, apart: bool) -> int:
    """Return how many branches are at work at once: in one call, or in two that take turns."""
    return 2 if job.guidance_scale > 1 and not apart else 1


def call_numbers(shape: UNetShape, pixels: int, *, park: bool) -> int:
    """Return how many numbers a frame keeps alive at the fullest moment of a UNet call, of `pixels` latent pixels.

    Walks the UNet as layers/activation.py frees it: a layer's input, its output, and the skip tensors that wait (parked ones,
    elsewhere; but the one that a layer reads for the first time is still here). A layer over frames keeps its input and what
    it makes of it, in the width of its attention.
    """
    channels, depth = shape.block_out_channels, shape.layers_per_block
    sizes = [pixels >> 2 * level for level in range(len(channels))]
    skips = skip_numbers(shape, pixels)
    waiting = x = first = skips[0]
    most = first + max(first, 8 * shape.attention_head_dim * pixels)  # the first layer over frames
    for out in skips[1:]:  # a skip's first reader is at work, or what follows it: input and output of the same size
        most = max(most, (0 if park else waiting - x) + max(x + out, 2 * out))
        waiting, x = waiting + out, out
    most = max(most, (0 if park else waiting - x) + 2 * x)
    for level in reversed(range(len(channels))):
        for _ in range(depth + 1):
            out = channels[level] * sizes[level]
            most = max(most, (0 if park else waiting) + x + out)
            waiting -= skips.pop()
            x = out
            most = max(most, (0 if park else waiting) + 2 * x)
        if level:
            out = channels[level] * sizes[level - 1]
            most = max(most, (0 if park else waiting) + x + out)
            x = out
    return most


def skip_numbers(shape: UNetShape, pixels: int) -> list[int]:
    """Return how many numbers a frame has in each skip tensor, in the order in which they are made."""
    channels = shape.block_out_channels
    sizes = [pixels >> 2 * level for level in range(len(channels))]
    found = [channels[0] * pixels]
    for level, width in enumerate(channels):
        found += [width * sizes[level]] * shape.layers_per_block
        if level + 1 < len(channels):
            found.append(width * sizes[level + 1])
    return found
