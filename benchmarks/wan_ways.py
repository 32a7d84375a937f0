"""Ways to make one long video with the small Wan: by dual scope, in all its forms, and what others do instead.

A way is a Job's settings and, where the engine has no setting for it, how the net is called (BY). Scopes are in latents here.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks import averaged_windows
from harness.places import BUNDLED_WAN
from parallel.comm.group import Group
from parallel.job.job import Job, Noise, Prompt, Scope, checked
from parallel.layers.patch import Swap, patched
from parallel.maths import places, rotary
from parallel.maths.scope import Span
from parallel.models.model import Model
from parallel.sampler.generate import Blocks, generate

TRAINED = 9  # latents of a clip that the small Wan was trained on
STEPS = 10
EVERYTHING = 1_000_000  # frames: all of a video
DENSE_REACH, SPARSE = 3, 11  # FreeLOC's 8 and 24 of 21 latents, in proportion
BUDGETS = (0.5, 1.0, 1.5, 2.0, 3.0)  # keys of a frame, over the trained latents
LOCAL_SHARES = (1.0, 0.75, 0.5, 0.25)  # of the keys, in the window
ALONE = Group(0, 1, torch.device("cpu"))


@dataclass(frozen=True)
class Way:
    """A name for tables, what a Job says, and what else is done: `by` is a key of BY."""

    name: str
    by: str = "ours"
    scope: dict[str, Any] = field(default_factory=dict)
    noise: Noise = field(default_factory=Noise)


def scopes(window: int, spread: int, **more: Any) -> dict[str, Any]:
    """Return a Job's scope of a window of an odd number of latents and `spread` global ones."""
    return {"local_context": 4 * (window // 2), "global_frames": 4 * spread, **more}


def split(budget: float, share: float) -> tuple[int, int]:
    """Return a window, odd, and how many global latents, that have together about `budget` times the trained latents."""
    keys = round(budget * TRAINED)
    window = 2 * round((share * keys - 1) / 2) + 1
    return window, max(0, keys - window)


DEFAULT = Way("default")
DENSE = Way("dense", scope={"local_context": EVERYTHING})
WINDOWS, INDEPENDENT = Way("averaged windows", by="windows"), Way("independent clips", by="independent")
WINDOW_ALONE = Way("window alone", scope=scopes(TRAINED, 0))
MAIN = (
    DEFAULT,
    DENSE,
    Way("RIFLEx", by="riflex", scope={"local_context": EVERYTHING}),
    WINDOW_ALONE,
    Way("5 + 4, true places", scope=scopes(5, 4, places="true")),
    Way("5 + 4, near, rotating", scope=scopes(5, 4, rotate=True)),
    Way("5 + 4, true, rotating", scope=scopes(5, 4, places="true", rotate=True)),
    Way("5 + 4, near, full windows", scope=scopes(5, 4, full_windows=True)),
    Way("LVSA's pattern", scope=scopes(3, 6, places="true", rotate=True, full_windows=True)),
    Way("FreeLOC's re-encoding", by="freeloc"),
    Way("noise, shuffled windows", noise=Noise(kind="shuffled", window=8, stride=4)),
    Way("noise, common and own", noise=Noise(kind="mixed", share=0.5)),
    WINDOWS,
    INDEPENDENT,
)
SPLITS = tuple(
    Way("{} local + {} global".format(*counts), scope=scopes(*counts))
    for counts in dict.fromkeys(split(budget, share) for budget in BUDGETS for share in LOCAL_SHARES)
)


def job_of(way: Way, caption: str, *, latents: int, seed: int) -> Job:
    """Return the job of a video of so many latents, 64x64 pixels."""
    return checked(
        Job,
        model=str(BUNDLED_WAN),
        prompts=(Prompt(frame=0, text=caption),),
        frames=4 * latents - 3,
        height=64,
        width=64,
        num_inference_steps=STEPS,
        seed=seed,
        scope=Scope(**way.scope),
        noise=way.noise,
    )


def borders(way: Way, latents: int) -> tuple[int, ...]:
    """Return the frames that clips, or windows, begin with; where ours would be cut if each rank had TRAINED latents."""
    every = averaged_windows.STRIDE if way.by == "windows" else TRAINED
    frames = 4 * latents - 3
    if way.by == "independent":
        return tuple(range(4 * TRAINED - 3, frames, 4 * TRAINED - 3))
    return tuple(4 * start - 3 for start in range(every, latents - 1, every))


@torch.inference_mode()
def make(model: Model, job: Job, way: Way) -> torch.Tensor:
    """Return a video's frames, (F, 64, 64, 3) in [0, 1]."""
    return BY[way.by](model, job)


def _ours(model: Model, job: Job) -> torch.Tensor:
    latents = torch.zeros(model.folder.latent_channels, model.folder.geometry.latents(job.frames), 8, 8)
    frames = torch.zeros(job.frames, 64, 64, 3)
    generate(model, job, Blocks(latents, frames), ALONE, report=lambda *_: None, stopping=lambda: False)
    return frames


def _riflex(model: Model, job: Job) -> torch.Tensor:
    """Dense attention whose intrinsic frequency of time has its period past the video's length (RIFLEx, arXiv 2502.15894)."""
    time_width = rotary.widths(model.folder.shape.attention_head_dim)[0]
    frequencies = rotary.angles(torch.ones(1), time_width)[0]
    intrinsic = int((2 * torch.pi / frequencies - TRAINED).abs().argmin())  # the video repeats itself by this pair's period
    frequency = min(frequencies[intrinsic].item(), 0.9 * 2 * torch.pi / model.folder.geometry.latents(job.frames))
    own_angles = rotary.angles

    def angles(places: torch.Tensor, width: int) -> torch.Tensor:
        found = own_angles(places, width)
        if width == time_width:
            found[:, intrinsic] = places.double() * frequency
        return found

    with patched([Swap(rotary, "angles", angles)]):
        return _ours(model, job)


def _freeloc(model: Model, job: Job) -> torch.Tensor:
    """Distances past those that were trained are re-encoded as shorter ones: a dense window, then every second latent.

    FreeLOC (arXiv 2603.25209), in all layers; it chooses layers by a probe.
    """
    with patched([Swap(places, "keys", reencoded)]):
        return _ours(model, job)


def reencoded(query: int, span: Span, rule: places.Rule) -> places.Keys:
    """Return the keys of one latent: all near ones, then every second, each no further than a trained clip is long."""
    offsets = [
        offset for offset in range(-SPARSE, SPARSE + 1) if abs(offset) <= DENSE_REACH or (abs(offset) - DENSE_REACH) % 2 == 0
    ]
    seen = [offset for offset in offsets if 0 <= query + offset < span.frames]
    near = tuple(_shorter(offset) for offset in seen)
    return places.Keys(tuple(query + offset for offset in seen), tuple(query + each for each in near), (True,) * len(seen))


def _shorter(offset: int) -> int:
    further = max(0, abs(offset) - DENSE_REACH) // 2
    return (1 if offset > 0 else -1) * min(min(abs(offset), DENSE_REACH) + further, TRAINED - 1)


def _windows(model: Model, job: Job) -> torch.Tensor:
    return averaged_windows.make(BUNDLED_WAN, _caption(job), frames=job.frames, seed=job.seed, **_settings(model))


def _independent(model: Model, job: Job) -> torch.Tensor:
    """Each clip of the trained length a video of its own, joined as they are."""
    frames = 4 * TRAINED - 3
    count = -(-job.frames // frames)
    clips = [_ours(model, job.model_copy(update={"frames": frames, "seed": 1000 * job.seed + place})) for place in range(count)]
    return torch.cat(clips)[: job.frames]


def _caption(job: Job) -> str:
    return job.prompts[0].text


def _settings(model: Model) -> dict[str, float]:
    return {"steps": STEPS, "guidance": model.folder.guidance_scale}


BY = {"ours": _ours, "riflex": _riflex, "freeloc": _freeloc, "windows": _windows, "independent": _independent}
