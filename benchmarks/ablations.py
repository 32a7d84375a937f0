"""Ways to make one long video with the bundled model: ours, ours without one of its parts, and what others do instead.

A way is a Job's settings and, where a part is taken out of the engine, how its layers are changed. Ways that cut the video into
clips which do not see all of each other need ranks, one a clip; every other way makes the same video on one rank (law 1).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from parallel.comm.group import Group
from parallel.job.job import Job, Noise
from parallel.layers import attention as frame_attention
from parallel.layers.attention import Biases, FrameTransformer
from parallel.layers.conv import NormConv
from parallel.layers.exchange import Arrivals, Exchange
from parallel.layers.guidance import Guidance
from parallel.layers.patch import Swap, patched
from parallel.layers.view import Halo, View
from parallel.maths import attention, clips
from parallel.models import unet3d
from parallel.plan import span_of
from parallel.sampler import encode, init, schedule
from parallel.sampler.denoise import denoise
from parallel.sampler.load import Model
from parallel.sampler.sample import guided

CLIP = 16  # frames the bundled model was trained on
LOCAL, GLOBAL = 8, 16
OVERLAP = 8


@dataclass(frozen=True)
class Way:
    """A name for tables, what a Job says, and what else is done: `by` is a key of BY."""

    name: str
    by: str = "ours"
    scope: dict[str, Any] = field(default_factory=dict)
    noise: Noise = field(default_factory=Noise)
    ranks: bool = False  # it needs one rank a clip


DEFAULT = Way("default")
WAYS = (
    DEFAULT,
    Way("independent clips", by="independent"),
    Way("halo off", by="no_halo", ranks=True),
    Way("attention within clips", by="closed_attention", ranks=True),
    Way("local scope off", scope={"local_context": 0}),
    Way("global scope off", scope={"global_frames": 0}),
    Way("group norm per clip, convolutions", by="own_norm_in_convolutions", ranks=True),
    Way("group norm per clip, everywhere", by="own_norm", ranks=True),
    Way("paper's phase biases", scope={"local_bias": (0.0, 10.0), "global_bias": (10.0, 0.0)}),
    Way("biases of 1, as a ramp", scope={"local_bias": (0.0, 1.0), "global_bias": (1.0, 0.0), "ramp": True}),
    Way("logits scaled to 16 keys", scope={"trained_frames": CLIP}),
    Way("zero keys past the ends", by="ghost_keys"),
    Way("overlapping windows", by="windows"),
    Way("whole-video attention", scope={"local_context": 1_000_000}),
    Way("noise, shuffled windows", noise=Noise(kind="shuffled")),
    Way("noise, common and own", noise=Noise(kind="mixed", share=0.5)),
)
SCOPES = tuple(
    Way(f"local {local}, global {spread}", scope={"local_context": local, "global_frames": spread})
    for local, spread in ((1, 2), (2, 4), (8, 8), (12, 16), (24, 16), (48, 16))
)


def settings(job: Job, way: Way) -> Job:
    """Return the job as a way makes it."""
    return job.model_copy(update={"scope": job.scope.model_copy(update=way.scope), "noise": way.noise})


@torch.inference_mode()
def make(model: Model, job: Job, way: Way, group: Group) -> torch.Tensor:
    """Return the latents of this rank's clip (C, F, h, w), of the whole video on a group of one."""
    job = settings(job, way)
    return BY[way.by](model, job, group)


def _ours(model: Model, job: Job, group: Group) -> torch.Tensor:
    view = View(group, span_of(job))
    return _sample(model, job, view, Biases(view, job.scope.trained_frames))


def _independent(model: Model, job: Job, group: Group) -> torch.Tensor:
    """Each clip a video of its own; its noise is that of its frames in the whole video."""
    made = []
    for clip in clips.cut(job.frames, -(-job.frames // CLIP)):
        view = View(group, replace(span_of(job), frames=len(clip)))
        made.append(_sample(model, job, view, Biases(view), frames=clip))
    return torch.cat(made, dim=1)


def _no_halo(model: Model, job: Job, group: Group) -> torch.Tensor:
    """Temporal convolutions see zeros past the borders of their clip."""
    view = ClosedView(group, span_of(job))
    return _sample(model, job, view, Biases(view))


def _closed_attention(model: Model, job: Job, group: Group) -> torch.Tensor:
    """Frames attend to their own clip alone, with a norm of it alone; convolutions see past its borders."""
    view = View(group, span_of(job))
    alone = Group(0, 1, group.device)
    return _sample(model, job, view, Biases(view), attention=View(alone, replace(span_of(job), frames=len(view.clip))))


def _own_norm(model: Model, job: Job, group: Group) -> torch.Tensor:
    """Group norms know the moments of their clip alone."""
    view = View(group, span_of(job))
    return _sample(model, job, view, Biases(view), alter=_forget_others)


def _own_norm_in_convolutions(model: Model, job: Job, group: Group) -> torch.Tensor:
    view = View(group, span_of(job))
    return _sample(model, job, view, Biases(view), alter=lambda module: _forget_others(module, transformers=False))


def _ghost_keys(model: Model, job: Job, group: Group) -> torch.Tensor:
    """Frames near the ends attend to zeros where there are no neighbours, as in the authors' code."""
    view = View(group, span_of(job))
    with patched([Swap(frame_attention.attention, "attend", attend_with_ghosts)]):
        return _sample(model, job, view, GhostBiases(view))


def _windows(model: Model, job: Job, group: Group) -> torch.Tensor:
    """The stock model over windows that overlap, each frame the mean of those that hold it (ComfyUI's context windows)."""
    view = View(group, span_of(job))
    return _sample(model, job, view, Biases(view), unet=Windowed(model.unet, job.frames))


BY = {
    "ours": _ours,
    "independent": _independent,
    "no_halo": _no_halo,
    "closed_attention": _closed_attention,
    "own_norm": _own_norm,
    "own_norm_in_convolutions": _own_norm_in_convolutions,
    "ghost_keys": _ghost_keys,
    "windows": _windows,
}


def _sample(
    model: Model,
    job: Job,
    view: View,
    biases: Biases,
    *,
    frames: range | None = None,
    unet: "Windowed | None" = None,
    attention: View | None = None,
    alter: Callable[[torch.nn.Module], None] = lambda module: None,
) -> torch.Tensor:
    scheduler = schedule.build(model.folder, job.scheduler)
    steps = schedule.timesteps(scheduler, job, view.group.device)
    conditioning = encode.encode_prompts(model, job, frames or view.clip)
    size = (model.folder.latent_channels, job.frames, job.height // model.folder.scale, job.width // model.folder.scale)
    drawn = replace(view, span=span_of(job)) if frames else view
    geometry = model.folder.geometry
    start = init.draw_start(job, None, torch.Size(size), geometry=geometry, view=drawn, scheduler=scheduler, schedule=steps)
    start = start[:, :, frames.start : frames.stop] if frames else start
    changes = [] if unet else unet3d.frame_changes(model.unet, view, biases)
    if attention is not None:
        others = unet3d.frame_changes(model.unet, attention, Biases(attention))
        changes = [theirs if _attends(theirs) else ours for ours, theirs in zip(changes, others)]
    for change in changes:
        if isinstance(change, Swap) and isinstance(change.new, torch.nn.Module):
            for module in change.new.modules():
                alter(module)
    with patched(changes):
        together = Guidance(job.guidance_scale, Group(0, 1, view.group.device))
        net = unet or model.unet
        guess = partial(guided, model, net, conditioning, together)
        *_, last = denoise(guess, scheduler, start, job=job, timesteps=steps, steps=range(len(steps)), view=view)
    return last[0]


def _attends(change: Any) -> bool:
    return isinstance(change, Swap) and isinstance(change.new, FrameTransformer)


class Closed(Halo):
    """A halo of zeros, whatever lies beside the clip."""

    def __init__(self, view: View, reach: int):
        self.route = view.route([()] * len(view.clips))
        self.zeros_left = self.zeros_right = reach
        self.left, self.right = [], []


class ClosedView(View):
    """A view whose convolutions do not see past the clip."""

    def halo(self, reach: int) -> Halo:
        return self.halos.setdefault(reach, Closed(self, reach))


class OwnHeader(Exchange):
    """An exchange that fetches frames and forgets what the others measured."""

    def __call__(self, x: torch.Tensor, header: torch.Tensor | None = None) -> Arrivals:
        arrivals = super().__call__(x, header)
        return replace(arrivals, headers=None if header is None else header[None])


def _forget_others(module: torch.nn.Module, *, transformers: bool = True) -> None:
    if isinstance(module, NormConv):
        module.exchange = OwnHeader(module.exchange.route, module.exchange.group, module.exchange.call)
    if isinstance(module, FrameTransformer) and transformers:
        first = module.exchanges[0]
        module.exchanges[0] = OwnHeader(first.route, first.group, first.call)


class GhostBiases(Biases):
    """Biases whose masks have a column more for every frame that a query misses past the ends."""

    def make(self, local: float, global_: float) -> list[torch.Tensor | None]:
        reach, frames = self.view.span.local_context, self.view.span.frames
        masks: list[torch.Tensor | None] = []
        for block, mask in zip(self.view.query_blocks, super().make(local, global_)):
            missing = torch.tensor([max(0, reach - q) + max(0, q + reach - frames + 1) for q in block.queries])
            ghosts = torch.where(torch.arange(int(missing.max())) < missing[:, None], local, -torch.inf)
            mask = torch.zeros(len(block.queries), len(block.keys)) if mask is None else mask[:, : len(block.keys)]
            masks.append(torch.cat([mask, ghosts], dim=1))
        return masks


def attend_with_ghosts(q_BNQD, k_BNKD, v_BNKD, mask_QK, scale_Q=None) -> torch.Tensor:
    """Attend to zeros where the mask has more columns than there are keys."""
    more = mask_QK.shape[1] - k_BNKD.shape[2]
    k_BNKD, v_BNKD = (torch.nn.functional.pad(x, (0, 0, 0, more)) for x in (k_BNKD, v_BNKD))
    return attend(q_BNQD, k_BNKD, v_BNKD, mask_QK, scale_Q)


attend = attention.attend


class Windowed:
    """A stock UNet, called as the sampler does, over windows of CLIP frames that share OVERLAP."""

    def __init__(self, unet: torch.nn.Module, frames: int):
        self.unet, self.dtype = unet, unet.dtype
        self.starts = sorted({*range(0, max(1, frames - CLIP), CLIP - OVERLAP), max(0, frames - CLIP)})

    def __call__(self, video: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states, return_dict: bool) -> tuple:
        """Return (the mean of all windows, each weighted towards its middle,)."""
        rows = encoder_hidden_states
        weight = torch.minimum(torch.arange(1, CLIP + 1), torch.arange(CLIP, 0, -1)).float()[:, None, None]
        total, weights = torch.zeros_like(video), torch.zeros(video.shape[2], 1, 1)
        text = torch.cat([rows.rows(slice(b * video.shape[2], b * video.shape[2] + 1)) for b in range(len(video))])
        for start in self.starts:
            some = slice(start, start + CLIP)
            total[:, :, some] += weight * self.unet(video[:, :, some], timestep, encoder_hidden_states=text).sample
            weights[some] += weight
        return (total / weights,)
