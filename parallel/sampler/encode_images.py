"""Encode keyframes: a clip's part of what they are to its model, in time and memory that do not grow with the video."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from ..comm.agree import agree
from ..comm.group import Group
from ..comm.share import share
from ..families.geometry import Geometry
from ..families.pinning import Pinning, held_latents
from ..job.errors import Stopped
from ..job.job import Job
from ..layers.conditioning import Images
from ..layers.view import View
from ..models.model import Frames, Model
from ..models.table import TEXT_RANK
from .decode import runs
from .given import Given, given
from .init import draw_noise
from .interrupt import interruptible
from .pins import Conditions, Held, Pins, steps_of

Report = Callable[[int, int], None]  # done, of


@dataclass(frozen=True)
class Caller:
    """Who is told how far it is, and may ask to stop."""

    report: Report
    stopping: Callable[[], bool]


def look(
    model: Model, pixels: torch.Tensor, group: Group, *, waiting: Callable[[], None], stopping: Callable[[], bool]
) -> torch.Tensor | None:
    """Return the tokens of the first picture, or of the first and the last, for a net that takes them, (F, L, D). Collective.

    The rank that has the text encoder looks, and shares what it sees; `waiting` is called where others wait for it. Raises Stopped
    on all ranks.
    """
    shape = model.folder.picture_tokens
    if shape is None:
        return None
    tokens = None
    if model.image_encoder is not None:
        pictures = pixels[:1] if shape[0] == 1 else torch.cat([pixels[:1], pixels[-1:]])
        tokens = model.look(pictures)
    assert shape[1] is not None, "one rank looks"
    waiting()
    (stopped,) = agree(stopping(), group=group, at="while encoding")
    if stopped:
        raise Stopped("stopped while encoding")
    return share(tokens, (shape[0], shape[1], shape[2]), model.dtype, source=TEXT_RANK, group=group)


def encode_keyframes(
    model: Model, job: Job, pixels: torch.Tensor | None, view: View, *, tokens: torch.Tensor | None, caller: Caller
) -> Pins:
    """Return what holds a clip's keyframes; raise Stopped, on this rank alone, if it was asked to stop."""
    if pixels is None:
        return Pins()
    with interruptible(model.vae, caller.stopping):
        if model.folder.pinning is Pinning.CHANNELS:
            return _conditions(model, job, pixels, view, tokens, caller)
        return _held(model, job, pixels, view, caller)


def _conditions(
    model: Model, job: Job, pixels: torch.Tensor, view: View, tokens: torch.Tensor | None, caller: Caller
) -> Conditions:
    """Return the condition channels that hold from the first step on, and those after each strength's last step."""
    ends = sorted({steps_of(job, keyframe.strength) for keyframe in job.keyframes})
    left = [end for end in ends if end < job.num_inference_steps]
    each = []
    for begin in (0, *left):
        there = given(job, pixels, [each for each in job.keyframes if steps_of(job, each.strength) > begin])
        each.append(Images(condition(model, there, view, caller), tokens))
    return Conditions(tuple(left), tuple(each))


def condition(model: Model, there: Given, view: View, caller: Caller) -> torch.Tensor:
    """Return a clip's condition channels, (1, 4 + C, F, h, w): which frames of a latent are given, and what these show.

    That is the encoding of a video that shows what is given, and nothing elsewhere. What it shows reaches `encode_reach` latents
    to the right, as does the video's beginning; beyond that the encoding of nothing is always the same.
    """
    geometry, clip, reach = model.folder.geometry, view.clip, model.encode_reach
    sources = sorted({0, *map(geometry.latent_of, there.rows)})
    live = sorted({latent for source in sources for latent in within(source, reach, clip)})
    encoded = [(list(run), _encode(model, there.video, run, caller)) for run in runs(live)]
    others = sorted(set(clip) - set(live))
    if others:
        nothing = Given(there.pixels, {})
        encoded.append((others, _encode(model, nothing.video, range(reach + 1, reach + 2), caller)))
    first = encoded[0][1]
    out = first.new_zeros(1, geometry.frames_per_latent + first.shape[1], len(clip), *first.shape[3:])
    for latents, part in encoded:
        places = torch.tensor(latents, device=out.device) - clip.start
        out[:, geometry.frames_per_latent :, places] = part
    mask = given_frames(there, geometry, clip).to(out)
    out[:, : geometry.frames_per_latent] = mask[None, :, :, None, None]
    return out


def within(source: int, reach: int, clip: range) -> range:
    """Return those of a clip's latents that a latent has a part in: itself, and `reach` to the right."""
    return range(max(source, clip.start), min(source + reach + 1, clip.stop))


def _encode(model: Model, frames: Frames, wanted: range, caller: Caller) -> torch.Tensor:
    """Return some consecutive latents, (1, C, F, h, w); raise Stopped, on this rank alone, if it was asked to stop."""
    parts = []
    for done, part in enumerate(model.encode(frames, wanted), start=1):
        parts.append(part)
        caller.report(done, len(wanted) + 1)
        if caller.stopping():
            raise Stopped("stopped while encoding")
    return torch.cat(parts, dim=2)


def given_frames(there: Given, geometry: Geometry, clip: range) -> torch.Tensor:
    """Return which frames of a clip's latents are given, float32 (frames of a latent, F): of the first, which has one, that one."""
    mask = torch.zeros(geometry.frames_per_latent, len(clip))
    for latent in {geometry.latent_of(frame) for frame in there.rows} & set(clip):
        frames = geometry.frames_of(range(latent, latent + 1))
        is_given = torch.tensor([float(frame in there.rows) for frame in frames])
        mask[:, latent - clip.start] = is_given  # of one frame: in all channels
    return mask


def _held(model: Model, job: Job, pixels: torch.Tensor, view: View, caller: Caller) -> Pins:
    """Return the clip's latents that are known, and the noise that each would have started from."""
    geometry, clip, device = model.folder.geometry, view.clip, view.group.device
    strengths = held_latents(job, geometry)
    there = given(job, pixels, job.keyframes)
    own = [latent for latent in strengths if latent in clip]
    own_time = model.folder.pinning is Pinning.OWN_TIME
    shape = model.folder.latents_shape(job)
    parts = [torch.zeros(1, shape[0], 0, *shape[2:], device=device)]
    for run in runs(strengths):
        wanted = range(max(run.start, clip.start), min(run.stop, clip.stop))
        if wanted:
            parts.append(_encode_held(model, there, run, wanted, caller).to(device))
    latents = torch.cat(parts, dim=2)
    noise = draw_noise(job, own, shape, geometry=geometry).to(device) if own else latents
    places = torch.tensor(own, dtype=torch.long, device=device) - clip.start
    return Held(places, latents, noise, tuple(steps_of(job, strengths[latent]) for latent in own), own_time)


def _encode_held(model: Model, there: Given, run: range, wanted: range, caller: Caller) -> torch.Tensor:
    """Return some latents of a run of known ones, (1, C, F, h, w).

    What a VAE makes of frames depends on those before, and what comes before a run is not known: there its first frame stands, once,
    as a video's first frame does. A run at the video's beginning is as it is in any video.
    """
    geometry = model.folder.geometry
    begin = geometry.frames_of(run).start
    ahead = max(0, run.start - 1)  # latents that are left out: one stands for all
    shift = max(0, begin - 1)
    local = range(wanted.start - ahead, wanted.stop - ahead)
    return _encode(model, partial(_filled, there, geometry, begin, shift), local, caller)


def _filled(there: Given, geometry: Geometry, begin: int, shift: int, frames: range) -> torch.Tensor:
    """Return frames of known latents from frame `begin` on, (F, H, W, 3), by numbers that are less by `shift`.

    Of a latent's frames that are not given the nearest one that is stands there.
    """
    pictures = []
    for frame in frames:
        shown = max(begin, frame + shift)
        latent = geometry.latent_of(shown)
        pictures.append(there.nearest(shown, geometry.frames_of(range(latent, latent + 1))))
    return torch.stack(pictures)


def kept_frames(model: Model, job: Job, pixels: torch.Tensor | None) -> Given | None:
    """Return the pictures that are given out as they came: of a model whose latents are held, those of latents that are."""
    if pixels is None:
        return None
    kept = given(job, pixels, [keyframe for keyframe in job.keyframes if keyframe.keep])
    if model.folder.pinning is Pinning.CHANNELS:
        return kept
    geometry = model.folder.geometry
    held = held_latents(job, geometry)
    return Given(pixels, {frame: row for frame, row in kept.rows.items() if geometry.latent_of(frame) in held})
