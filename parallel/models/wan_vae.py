"""`AutoencoderKLWan` on a clip: diffusers' own streaming, begun anywhere in the video, with only what matters of the halo.

Every convolution over time is causal and looks back two frames at its own rate, so what a clip needs of the latents before it
shrinks from one convolution to the next. Each latent of the halo runs as deep as the clip still sees it. What comes out are the
frames, or the latents, of stock's pass over the whole video; of a long clip no more is in memory than of a short one.
"""

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders import autoencoder_kl_wan as wan
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import nn

FRAMES = 4  # of a latent, but for the video's first, which is of one


def decode_reach(vae: AutoencoderKLWan) -> int:
    """Return how many latents before a clip its frames depend on: 38 for released VAEs. Raises ValueError as `decode` does."""
    _check_form(vae)
    return reaches(vae.decoder)[0]


def encode_reach(vae: AutoencoderKLWan) -> int:
    """Return how many latents' frames before a clip count for it: 28 for released VAEs. Raises ValueError as `encode` does."""
    _check_form(vae)
    return reaches(vae.encoder)[0]


@torch.inference_mode()
def decode(vae: AutoencoderKLWan, latents_BCFHW: torch.Tensor, *, halo: int, from_start: bool) -> Iterator[torch.Tensor]:
    """Yield the frames of each latent after the first `halo`, (B, C, 4, H, W) in [-1, 1]; of the video's first latent, one.

    The latents are the VAE's own, not normalized. `from_start`: the first one given is the video's first. Raises ValueError on
    a halo that is too short, and on a VAE that this diffusers can't build.
    """
    begin = _begin(halo, decode_reach(vae), from_start)
    latents = (vae.post_quant_conv(latents_BCFHW[:, :, n : n + 1]) for n in range(begin, latents_BCFHW.shape[2]))
    patch_size = vae.config.get("patch_size")
    for patches in _stream(vae.decoder, latents, ahead=halo - begin, from_start=from_start and begin == 0):
        frames = patches if patch_size is None else wan.unpatchify(patches, patch_size)
        yield frames.clamp(-1, 1)


def encode(vae: AutoencoderKLWan, frames_BCFHW: torch.Tensor, *, halo: int, from_start: bool) -> Iterator[torch.Tensor]:
    """Yield the latents of frames in [-1, 1] after those of the first `halo` latents, (B, C, 1, H, W) each: the mode.

    They are not normalized. `from_start`: the first frame given is the video's first, a latent by itself. Raises ValueError on
    a halo that is too short, on frames that are no whole latents, and on a VAE that this diffusers can't build.
    """
    begin = _begin(halo, encode_reach(vae), from_start)
    lacking = FRAMES - 1 if from_start else 0
    stop, left_over = divmod(frames_BCFHW.shape[2] + lacking, FRAMES)
    if left_over:
        wanted = "4n + 1 frames from the video's start" if from_start else "4n frames"
        raise ValueError(f"cannot encode {frames_BCFHW.shape[2]} frames, a latent is of {FRAMES}: give {wanted}")
    starts = [n * FRAMES - lacking for n in range(begin, stop)]
    parts = (frames_BCFHW[:, :, max(0, start) : start + FRAMES] for start in starts)
    return encode_parts(vae, parts, halo=halo - begin, from_start=from_start and begin == 0)


@torch.inference_mode()
def encode_parts(
    vae: AutoencoderKLWan, parts: Iterator[torch.Tensor], *, halo: int, from_start: bool
) -> Iterator[torch.Tensor]:
    """Yield as `encode` does, given the frames of each latent, (B, C, 4, H, W), when it is their turn: no more is in memory.

    The halo is as long as `encode_reach` says, or shorter where it begins with the video's first frame.
    """
    patch_size = vae.config.get("patch_size")
    patches = parts if patch_size is None else (wan.patchify(part, patch_size) for part in parts)
    for moments in _stream(vae.encoder, patches, ahead=halo, from_start=from_start):
        yield DiagonalGaussianDistribution(vae.quant_conv(moments)).mode()


def _check_form(vae: AutoencoderKLWan) -> None:
    if vae.config.get("is_residual") and not any(hasattr(module, "avg_shortcut") for module in vae.modules()):
        version = diffusers.__version__
        raise ValueError(f"the VAE of Wan 2.2 5B needs diffusers 0.35 or newer, this is {version}: update diffusers")


def _begin(halo: int, reach: int, from_start: bool) -> int:
    """Return the first given latent that matters."""
    if halo < reach and not from_start:
        wanted = f"give {reach}, or all from the video's start"
        raise ValueError(f"this VAE needs {reach} latents before a clip, got {halo}: {wanted}")
    return max(0, halo - reach)


def _stream(net: nn.Module, inputs: Iterator[torch.Tensor], *, ahead: int, from_start: bool) -> Iterator[torch.Tensor]:
    """Yield what comes out of an encoder or a decoder for each latent's input, but for the first `ahead` of them."""
    stream = Stream(net, from_start)
    for distance, halo_BCFHW in zip(range(ahead, 0, -1), inputs):
        stream.warm(halo_BCFHW, distance)
    for own_BCFHW in inputs:
        yield stream.run(own_BCFHW)


class Stream:
    """An encoder's or a decoder's pass along the video, a latent a call, with caches of its own; the net is left as it was."""

    def __init__(self, net: nn.Module, from_start: bool):
        self.net = net
        self.convs = _convs(net)
        self.reaches = reaches(net)
        self.resamplers = [module for module in net.modules() if isinstance(module, wan.WanResample) and "3d" in module.mode]
        self.caches: list[Any] = [None] * len(self.convs)  # in the order of calls, in which diffusers counts them
        self.called = [0]  # diffusers counts in a list: so many have been called for this latent
        self.is_first = from_start
        self.has_first_chunk = "first_chunk" in inspect.signature(net.forward).parameters

    def warm(self, x_BCFHW: torch.Tensor, distance: int) -> None:
        """Take a latent that lies so far before the clip, as deep as it matters.

        A resampler's convolution does not see the video's first latent: where that is to stop there, it runs on, to no harm.
        """
        last = sum(reach >= distance for reach in self.reaches) - 1
        with self.convs[last].register_forward_pre_hook(self._stop), suppress(Enough):
            self.run(x_BCFHW)

    def run(self, x_BCFHW: torch.Tensor) -> torch.Tensor:
        """Return what comes out for the next latent."""
        is_first, self.is_first, self.called[0] = self.is_first, False, 0
        first = {"first_chunk": True} if is_first and self.has_first_chunk else {}
        with ExitStack() as stack:
            for resampler in [] if is_first else self.resamplers:
                stack.enter_context(resampler.register_forward_pre_hook(self._seed))
            out = self.net(x_BCFHW, feat_cache=self.caches, feat_idx=self.called, **first)
        assert self.called[0] == len(self.convs), "a convolution over time has no cache, or is called out of order"
        return out

    def _seed(self, resampler: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        """Give a resampler a past: without one it takes its input for the video's first frame, and leaves the rate as it is."""
        place = self.called[0]
        if self.caches[place] is None:
            B, C, _, H, W = args[0].shape
            smaller = 2 if resampler.mode == "downsample3d" else 1  # it keeps what it has made smaller
            self.caches[place] = args[0].new_zeros(B, C, 2, H // smaller, W // smaller)

    def _stop(self, conv: nn.Module, args: tuple[Any, ...]) -> None:
        """Keep the input of the last convolution that matters, as diffusers would after it, and compute nothing more."""
        place = self.called[0]
        assert self.convs[place] is conv, "convolutions over time are called in another order than they are listed"
        x, past = (*args, None)[:2]
        seen = [x] if past is None else [past, x]
        self.caches[place] = torch.cat(seen, dim=2)[:, :, -2:].clone()
        raise Enough


class Enough(Exception):
    """A latent of the halo has run as deep as it matters."""


def _convs(net: nn.Module) -> list[nn.Conv3d]:
    """Return the convolutions over time, in the order in which they are called."""
    return [module for module in net.modules() if isinstance(module, nn.Conv3d) and module.kernel_size[0] > 1]


def reaches(net: nn.Module) -> list[int]:
    """Return for each convolution over time from how many latents before the clip on it must be given its input."""
    doubling = [m.time_conv for m in net.modules() if isinstance(m, wan.WanResample) and m.mode == "upsample3d"]
    frames, rate = 0, 2 ** len(doubling)  # before the clip, and of a latent: both of a convolution's output, then of its input
    found = []
    for conv in reversed(_convs(net)):
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        if conv in doubling:
            frames, rate = -(-frames // 2), rate // 2
        frames, rate = frames * stride + kernel - stride, rate * stride
        found.append(-(-frames // rate))
    return found[::-1]
