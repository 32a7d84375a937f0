"""What a job will do, before anything runs: clips by rank, what a frame attends to, its prompts, messages, memory."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .families import folder, traffic
from .families.geometry import Geometry
from .families.table import ModelFolder
from .job.job import Job, Offload
from .maths import clips, places, prompts, scope, slices

OFFLOADS: tuple[Offload, ...] = ("none", "parts", "blocks")  # the fastest first
HEADROOM = 0.9  # of what is free: allocators round up
AREA, ASPECT = 1.4, 1.4  # times those that a model was trained on: 640x480 is 0.77 of 832x480, and makes good videos
FEWEST, MOST = 0.75, 2.5  # times the trained number of keys; the nearest that slowed motion in docs/quality.md: 0.6 and 3.8


PICTURES = Geometry(scale=8)  # of a model whose VAE makes one frame of each latent


@dataclass(frozen=True)
class Sight:
    """What one frame attends to, as frame numbers: that of all frames of its latent, and of whole latents."""

    frame: int
    latent: range  # the frames of its own latent
    near: tuple[int, ...]  # the local scope, the frame itself included
    spread: tuple[int, ...]  # the global scope, those in the local one left out
    fetched: int  # how many of them belong to other ranks


@dataclass(frozen=True)
class Memory:
    """Estimated bytes on one rank."""

    weights: int  # the most that is there at once
    encode: int  # on top of those that encode
    denoise: int  # on top of those that denoise
    decode: int  # on top of those that decode
    encoding: int  # weights that are there meanwhile
    denoising: int
    decoding: int
    offloaded: int  # in host memory: weights that wait there
    before_loras: int  # in host memory: weights as they were before LoRAs were merged into them
    skips: int  # in host memory: skip tensors, if they are offloaded

    @property
    def peak(self) -> int:
        """The most that is in use at once."""
        return max(self.weights, self.encoding + self.encode, self.denoising + self.denoise, self.decoding + self.decode)


@dataclass(frozen=True)
class Plan:
    """A job on some number of ranks."""

    job: Job
    geometry: Geometry
    clips: tuple[range, ...]  # of each rank, in latents
    messages_a_call: int  # that a rank sends or joins in one call of the net, which is one branch of guidance
    messages_once: int  # before frames are decoded, of what they depend on in other ranks' latents
    memory: Memory  # of the rank with the longest clip
    peaks: dict[Offload, int]  # bytes on it by what is offloaded
    shared_bytes: int  # the IMAGE, in host memory

    @property
    def frames(self) -> tuple[range, ...]:
        """The frames of each rank's clip."""
        return tuple(frames_of(clip, self.job, self.geometry) for clip in self.clips)

    def sight(self, frame: int) -> Sight:
        """Return what a frame attends to, in the first step if global frames rotate."""
        latent = self.geometry.latent_of(frame)
        keys = places.keys(latent, latent_span(self.job, self.geometry), "true")
        near = self._each_frame_of(key for key, is_local in zip(keys.frames, keys.is_local) if is_local)
        spread = self._each_frame_of(key for key, is_local in zip(keys.frames, keys.is_local) if not is_local)
        home = next(frames for frames in self.frames if frame in frames)
        own = frames_of(range(latent, latent + 1), self.job, self.geometry)
        return Sight(frame, own, near, spread, sum(key not in home for key in near + spread))

    def _each_frame_of(self, latents: Iterable[int]) -> tuple[int, ...]:
        runs = (frames_of(range(latent, latent + 1), self.job, self.geometry) for latent in latents)
        return tuple(sorted(frame for run in runs for frame in run))

    def prompts_at(self, frame: int) -> tuple[int, int, float]:
        """Return (number of the prompt before, number of the prompt now, share of the prompt now) at a frame."""
        starts = tuple(prompt.frame for prompt in self.job.prompts)
        return prompts.at(frame, prompts.Timeline(self.job.frames, starts, self.job.fade, self.job.loop))


def plan(job: Job, ranks: int, model: ModelFolder | None = None) -> Plan:
    """Return the plan of a job, on `model` if that was inspected already; raise JobRefused if it can't be run on so many ranks."""
    model = folder.check(job, ranks, model)
    cut = clips.cut(model.geometry.latents(job.frames), ranks)
    return Plan(
        job=job,
        geometry=model.geometry,
        clips=cut,
        messages_a_call=model.count_messages() if ranks > 1 else 0,
        messages_once=int(ranks > 1 and job.decode and model.decode_reach > 0),
        memory=estimate_memory(model, job, cut[0]),
        peaks={offload: estimate_peak(model, job, cut[0], offload) for offload in OFFLOADS},
        shared_bytes=image_bytes(job),
    )


def sent_bytes(model: ModelFolder, job: Job, ranks: int, *, step: int = 0) -> list[int]:
    """Return the bytes that each rank sends in one call of the net, which is one branch of guidance: 0 where there is one rank.

    The step, from 0, matters where global frames rotate.
    """
    span = latent_span(job, model.geometry)
    if job.scope.rotate:
        span = scope.at_step(span, step)
    return traffic.sent_bytes(model.exchanges(job), span, ranks, item=job.item_bytes, groups=model.norm_groups)


def sent_once(model: ModelFolder, job: Job, ranks: int) -> list[int]:
    """Return the bytes that each rank sends once, before frames are decoded: the latents that others' frames depend on."""
    if not job.decode:
        return [0] * ranks
    channels, latents, height, width = model.latents_shape(job)
    return traffic.context_bytes(latents, ranks, reach=model.decode_reach, bytes_each=4 * channels * height * width)


def frames_of(latents: range, job: Job, geometry: Geometry) -> range:
    """Return the frames that consecutive latents hold, without those past the end of the video."""
    frames = geometry.frames_of(latents)
    return range(frames.start, min(frames.stop, job.frames))


def latent_span(job: Job, geometry: Geometry) -> scope.Span:
    """Return how far the latents of a job see: a scope of frames takes all the latents that it reaches into."""
    return geometry.span(job)


def span_of(job: Job) -> scope.Span:
    """Return how far the frames of a job see, of a model that makes one frame of each latent."""
    return latent_span(job, PICTURES)


def keys_of(job: Job, frame: int) -> tuple[int, ...]:
    """Return the frames that one attends to, ascending, of such a model; one that is near and spread counts once."""
    return scope.keys(range(frame, frame + 1), span_of(job))


def keys_notice(job: Job, geometry: Geometry = PICTURES) -> str | None:
    """Return a sentence if frames attend to many more, or fewer, frames than a model is trained on; None if they do not."""
    trained = job.scope.model_frames or geometry.trained_frames
    span = latent_span(job, geometry)
    middle = span.frames // 2
    keys, wanted = len(scope.keys(range(middle, middle + 1), span)), geometry.latents(trained)
    if job.frames <= trained or FEWEST * wanted <= keys <= MOST * wanted:
        return None
    per = geometry.frames_per_latent
    return (
        f"a frame attends to {keys * per} frames; a model that was trained on {trained} wants "
        f"{math.ceil(FEWEST * wanted) * per} to {math.floor(MOST * wanted) * per}: change local_context or global_frames if things "
        "move too slowly, or say as model_frames what it was trained on"
    )


def size_notice(job: Job, model: ModelFolder) -> str | None:
    """Return a sentence if frames are far from all sizes that a model is trained on, in their area or their aspect; None if not."""
    known = model.trained_sizes
    if not known:
        return None
    areas = sorted(height * width for height, width in known)
    aspects = [max(size) / min(size) for size in known]
    area, aspect = job.height * job.width, max(job.height, job.width) / min(job.height, job.width)
    if areas[0] / AREA <= area <= areas[-1] * AREA and aspect <= max(aspects) * ASPECT:
        return None
    sizes = " or ".join(f"{width}x{height}" for height, width in known)
    return f"{job.width}x{job.height} is far from what this model was trained on: use about {sizes}, or expect worse frames"


def notices(job: Job, model: ModelFolder) -> list[str]:
    """Return what the user should know of a job before it runs."""
    if not job.num_inference_steps:
        return []
    return list(filter(None, [size_notice(job, model), keys_notice(job, model.geometry)]))


def estimate_memory(model: ModelFolder, job: Job, clip: range) -> Memory:
    """Estimate a rank's memory for a clip, in latents, from the sizes in the model's configuration alone.

    Where the job leaves it to the rank, branches go together and skip tensors stay, as they do when there is room.
    """
    loras = {str(part): model.lora_bytes(part, job) for part in model.weighty}
    weights = {str(part): model.weight_bytes(part, job, loras[str(part)]) for part in model.weighty}
    at_once = dict(weights)
    if job.offload == "blocks":
        at_once = {str(part): model.bytes_at_once(part, job, loras[str(part)]) for part in model.weighty}
    offloads = job.offload in ("parts", "blocks")
    apart, skips = job.tuning.branches == "apart", job.tuning.park_skips
    every = sum(weights.values())
    return Memory(
        weights=max(at_once.values()) if offloads else every,
        encoding=at_once.get(str(model.text_encoder), 0) if offloads else every,
        denoising=max(at_once[str(net)] for net in model.nets) if offloads else every,
        decoding=at_once[str(model.vae)] if offloads else every,
        encode=model.encode_bytes(job),
        denoise=model.denoise_bytes(job, len(clip), apart=apart, offload_skips=skips == "always") + slices.CPU_BYTES,
        decode=model.decode_bytes(job, len(frames_of(clip, job, model.geometry))),
        offloaded=every if offloads else 0,
        before_loras=sum(each.before for each in loras.values()),
        skips=0 if skips == "never" else model.skip_bytes(job, len(clip), apart=apart),
    )


def fitting_offload(model: ModelFolder, job: Job, clip: range, free: int) -> Offload:
    """Return the fastest way to offload with which a clip, in latents, fits into some free bytes of a device; `blocks` if none does."""
    return fitting({offload: estimate_peak(model, job, clip, offload) for offload in OFFLOADS}, free) or OFFLOADS[-1]


def fitting(peaks: dict[Offload, int], free: int) -> Offload | None:
    """Return the first of some ways to offload whose peak fits into some free bytes; None if none does."""
    return next((offload for offload, peak in peaks.items() if peak <= HEADROOM * free), None)


def estimate_peak(model: ModelFolder, job: Job, clip: range, offload: Offload) -> int:
    """Estimate the most bytes that a rank's device holds at once if it offloads in some way."""
    return estimate_memory(model, job.model_copy(update={"offload": offload}), clip).peak


def image_bytes(job: Job) -> int:
    """Return the size of the IMAGE that a job makes, in float32; 0 if it does not decode."""
    return job.frames * job.height * job.width * 3 * 4 if job.decode else 0
