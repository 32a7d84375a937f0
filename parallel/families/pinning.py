"""How a model takes frames that are given: what its host half says, and what the sampler does by it."""

from enum import Enum


class Pinning(Enum):
    """What holds a keyframe's latents in place while the rest of the video is made."""

    CHANNELS = "channels"  # the net sees beside its latents which frames are given, and what they show: image-to-video
    OWN_TIME = "own time"  # each latent has a time of its own: those given are shown to the net without noise, at time 0
    REPLACED = "replaced"  # a net that knows of no images: the latents given take the place of its own at each step's noise
