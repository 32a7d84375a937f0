"""`AutoencoderKLWan` on a clip: diffusers' own streaming, begun anywhere in the video, with only what matters of the halo.

Every convolution over time is causal and looks back two frames at its own rate, so what a clip needs of the latents before it
shrinks from one convolution to the next. Each latent of the halo runs until the last convolution that a frame of the clip still
sees it through. What comes out are the frames, or the latents, of stock's pass over the whole video.
"""

import inspect
from collections.abc import Callable, Iterator
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
    """Return how many latents before a clip its frames depend on: 38 for the released VAEs. Raises ValueError as `decode` does."""
    _check(vae)
    return _reaches(vae.decoder)[0]


def encode_reach(vae: AutoencoderKLWan) -> int:
    """Return how many latents' frames before a clip its latents depend on: 28 for the released VAEs. Raises ValueError as `encode` does."""
    _check(vae)
    return _reaches(vae.encoder)[0]


def decode(vae: AutoencoderKLWan, latents_BCFHW: torch.Tensor, *, halo: int, from_start: bool) -> Iterator[torch.Tensor]:
    """Yield the frames of each latent after the first `halo` ones, (B, C, 4, H, W) in [-1, 1]; of the video's first latent, one.

    The latents are as the VAE has them: not normalized. `from_start`: the first one given is the video's first. Raises ValueError
    where the halo is too short, and on a VAE that this diffusers can't build.
    """
    reach = decode_reach(vae)
    _check_halo(halo, reach, from_start)
    stream = Stream(vae.decoder)
    patch_size = vae.config.get("patch_size")
    for number in range(max(0, halo - reach), latents_BCFHW.shape[2]):
        with torch.inference_mode():
            latent = vae.post_quant_conv(latents_BCFHW[:, :, number : number + 1])
            frames = stream.step(latent, ahead=halo - number, is_first=from_start and number == 0)
            if frames is not None:
                frames = (frames if patch_size is None else wan.unpatchify(frames, patch_size)).clamp(-1, 1)
        if frames is not None:
            yield frames


def encode(vae: AutoencoderKLWan, frames_BCFHW: torch.Tensor, *, halo: int, from_start: bool) -> Iterator[torch.Tensor]:
    """Yield the latents of frames in [-1, 1] after the frames of the first `halo` latents, (B, C, 1, H, W) each, not normalized.

    They are the modes of the posterior. `from_start`: the first frame given is the video's first, and all there is of its latent.
    Raises ValueError where the halo is too short or a latent's frames are not all there, and on a VAE that this diffusers can't build.
    """
    reach = encode_reach(vae)
    _check_halo(halo, reach, from_start)
    lacking = FRAMES - 1 if from_start else 0
    latents, left_over = divmod(frames_BCFHW.shape[2] + lacking, FRAMES)
    if left_over:
        wanted = "4n + 1 frames from the video's start" if from_start else "4n frames"
        raise ValueError(f"cannot encode {frames_BCFHW.shape[2]} frames, a latent is of {FRAMES}: give {wanted}")
    stream = Stream(vae.encoder)
    patch_size = vae.config.get("patch_size")
    for number in range(max(0, halo - reach), latents):
        start = number * FRAMES - lacking
        frames = frames_BCFHW[:, :, max(0, start) : start + FRAMES]
        with torch.inference_mode():
            frames = frames if patch_size is None else wan.patchify(frames, patch_size)
            moments = stream.step(frames, ahead=halo - number, is_first=from_start and number == 0)
            latent = None if moments is None else DiagonalGaussianDistribution(vae.quant_conv(moments)).mode()
        if latent is not None:
            yield latent


def _check(vae: AutoencoderKLWan) -> None:
    if vae.config.get("is_residual") and not any(hasattr(module, "avg_shortcut") for module in vae.modules()):
        raise ValueError(
            f"the VAE of Wan 2.2 5B needs diffusers 0.35 or newer, this is {diffusers.__version__}: update diffusers"
        )


def _check_halo(halo: int, reach: int, from_start: bool) -> None:
    if halo < reach and not from_start:
        raise ValueError(
            f"this VAE needs {reach} latents before a clip, got {halo}: give {reach}, or all from the video's start"
        )


class Stream:
    """An encoder's or decoder's pass along the video, a latent a step, with caches of its own; the module is left as it was."""

    def __init__(self, net: nn.Module):
        self.net = net
        self.convs = _convs(net)
        self.reaches = _reaches(net)
        self.resamplers = [module for module in net.modules() if isinstance(module, wan.WanResample) and "3d" in module.mode]
        self.caches: list[Any] = [None] * len(self.convs)  # in the order of calls, as diffusers counts them in `feat_idx`

    def step(self, x_BCFHW: torch.Tensor, *, ahead: int, is_first: bool) -> torch.Tensor | None:
        """Take the next latent, or its frames, and return what comes out; None while it is still `ahead` latents before the clip."""
        place = [0]
        knows_first = "first_chunk" in inspect.signature(self.net.forward).parameters
        first = {"first_chunk": True} if knows_first and is_first else {}
        with ExitStack() as stack:
            if not is_first:
                for resampler in self.resamplers:
                    stack.enter_context(resampler.register_forward_pre_hook(self._seed(place)))
            if ahead > 0:
                last = sum(reach >= ahead for reach in self.reaches) - 1
                stack.enter_context(self.convs[last].register_forward_pre_hook(self._stop(last)))
            with suppress(Enough):
                out = self.net(x_BCFHW, feat_cache=self.caches, feat_idx=place, **first)
                return out if ahead <= 0 else None
        return None

    def _seed(self, place: list[int]) -> Callable[..., None]:
        """Return a hook: without a past a resampler takes its input for the video's first frame, which it alone does not double."""

        def hook(resampler: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            if self.caches[place[0]] is None:
                B, C, _, H, W = args[0].shape
                smaller = 2 if resampler.mode == "downsample3d" else 1  # it keeps what it has made smaller
                self.caches[place[0]] = args[0].new_zeros(B, C, 2, H // smaller, W // smaller)

        return hook

    def _stop(self, last: int) -> Callable[..., None]:
        """Return a hook of the last convolution that matters: its input is kept for the next step, and nothing more is computed."""

        def hook(conv: nn.Module, args: tuple[torch.Tensor | None, ...]) -> None:
            past = [x for x in (*args[1:], args[0]) if x is not None]
            self.caches[last] = torch.cat(past, dim=2)[:, :, -2:].clone()
            raise Enough

        return hook


class Enough(Exception):
    """A latent of the halo has run as deep as it matters."""


def _convs(net: nn.Module) -> list[nn.Module]:
    """Return the convolutions over time, in the order in which they are called."""
    return [module for module in net.modules() if isinstance(module, wan.WanCausalConv3d) and module.kernel_size[0] > 1]


def _reaches(net: nn.Module) -> list[int]:
    """Return of each convolution over time how many latents before a clip must come to its input."""
    doubling = [m.time_conv for m in net.modules() if isinstance(m, wan.WanResample) and m.mode == "upsample3d"]
    frames, rate = 0, 2 ** len(doubling)  # frames before the clip's first, and frames of a latent, where a convolution puts out
    reaches = []
    for conv in reversed(_convs(net)):
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        if conv in doubling:
            frames, rate = -(-frames // 2), rate // 2
        frames, rate = frames * stride + kernel - stride, rate * stride
        reaches.append(-(-frames // rate))
    return reaches[::-1]
