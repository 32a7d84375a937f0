"""How a model takes frames that are given: what its host half says, and what the sampler does by it."""

from enum import Enum

from ..job.job import Job
from .geometry import Geometry


class Pinning(Enum):
    """What holds a keyframe's latents in place while the rest of the video is made."""

    CHANNELS = "channels"  # the net sees beside its latents which frames are given, and what they show: image-to-video
    OWN_TIME = "own time"  # each latent has a time of its own: those given are shown to the net without noise, at time 0
    REPLACED = "replaced"  # a net that knows of no images: the latents given take the place of its own at each step's noise


def held_latents(job: Job, geometry: Geometry) -> dict[int, float]:
    """Return the latents that keyframes fix, ascending, with their strength, for a model whose latents are fixed as wholes.

    A latent is fixed by a run that has all of its frames, or that lies within it: of a picture by itself all frames of its latent are
    made. Of a run that ends within a latent what is left over is not used.
    """
    found: dict[int, float] = {}
    for keyframe in job.keyframes:
        first, last = geometry.latent_of(keyframe.frame), geometry.latent_of(keyframe.last)
        for latent in range(first, last + 1):
            frames = geometry.frames_of(range(latent, latent + 1))
            has_all = keyframe.frame <= frames.start and frames.stop - 1 <= keyframe.last
            reaches_end = keyframe.last == job.frames - 1 and keyframe.frame <= frames.start
            if has_all or reaches_end or first == last:
                found[latent] = max(keyframe.strength, found.get(latent, 0.0))
    return dict(sorted(found.items()))
