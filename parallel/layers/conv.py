"""Normalised temporal convolutions over a cut time axis: (group norm, activation, (k, 1, 1) convolution) x 4; one exchange each.

A norm before a convolution would need two exchanges, one for the moments and one for the normalised edge frames. Here the
moments go to everyone together with raw edge frames to the neighbours, and the receiver treats the edges as its own.
"""

import torch
from diffusers.models.resnet import TemporalConvLayer
from einops import rearrange
from torch import nn

from ..maths import moments
from ..maths.slices import cut
from .activation import Activation
from .exchange import Exchange
from .view import View

CONVS = ("conv1", "conv2", "conv3", "conv4")


class FrameConvs(nn.Module):
    """Stands in for a TemporalConvLayer. What it returns is read `reads` times, and waits between in host memory with `offload`."""

    def __init__(self, layer: TemporalConvLayer, view: View, *, reads: int = 1, offload: bool = False):
        super().__init__()
        self.convs = nn.ModuleList(NormConv(getattr(layer, name), view) for name in CONVS)
        self.reads, self.offload = reads, offload

    def forward(self, hidden_states: Activation, num_frames: int = 1) -> Activation:
        """Return x plus what the four convolutions make of it, (B x F, C, H, W)."""
        x, _ = hidden_states.take()
        x_BFCP = rearrange(x, "(b f) c h w -> b f c (h w)", f=num_frames)
        made_BFCP, out_BFCP = x_BFCP, torch.empty_like(x_BFCP)
        for conv in self.convs:
            made_BFCP = conv(made_BFCP, out_BFCP)  # from the second on, over what it reads
        return Activation(out_BFCP.add_(x_BFCP).view_as(x), reads=self.reads, offload=self.offload)


class NormConv(nn.Module):
    """Stands in for a `Sequential(GroupNorm, activation, [Dropout,] Conv3d)` whose convolution pads only time."""

    def __init__(self, layers: nn.Sequential, view: View):
        super().__init__()
        norm, *between, conv = layers
        assert isinstance(norm, nn.GroupNorm) and isinstance(conv, nn.Conv3d)
        self.norm, self.between, self.conv = norm, nn.Sequential(*between), conv
        kernel, pad = self.conv.kernel_size, self.conv.padding
        assert kernel[1:] == (1, 1) and pad == (kernel[0] // 2, 0, 0) and self.conv.stride == (1, 1, 1)
        assert self.conv.in_channels == self.conv.out_channels
        self.halo, self.slices = view.halo(pad[0]), view.slices
        self.exchange = Exchange(self.halo.route, view.group, view.call)

    def forward(self, x_BFCP: torch.Tensor, out_BFCP: torch.Tensor) -> torch.Tensor:
        """Fill `out`, which may be x, with the convolution of the whole video's frames at this clip, and return it."""
        own_BG3 = moments.measure_all(x_BFCP, self.norm.num_groups, self.slices)
        arrivals = self.exchange(x_BFCP, own_BG3)
        assert arrivals.headers is not None
        edges_BECP, total_BG3 = arrivals.frames, moments.merge(arrivals.headers)
        weight_CK = rearrange(self.conv.weight, "out c taps 1 1 -> out (taps c)")
        bytes_each = 4 * x_BFCP[0, :, :, :1].numel() * x_BFCP.element_size()
        for x_FCP, edges_ECP, out_FCP, total_G3 in zip(x_BFCP, edges_BECP, out_BFCP, total_BG3):
            for some in self.slices.over_pixels(x_BFCP.shape[3], bytes_each):
                wide_FCP = self.halo.widen(x_FCP[..., some], edges_ECP[..., some])
                out_FCP[..., some] = self._convolve(wide_FCP, weight_CK, total_G3)
        return out_BFCP

    def _convolve(self, wide_FCP: torch.Tensor, weight_CK: torch.Tensor, total_G3: torch.Tensor) -> torch.Tensor:
        wide_FCP = self.between(moments.normalize(wide_FCP, total_G3, self.norm)).contiguous()
        # The model was trained with zeros beyond the ends, after norm and activation.
        wide_FCP[: self.halo.zeros_left] = 0
        wide_FCP[len(wide_FCP) - self.halo.zeros_right :] = 0
        taps, channels, pixels = self.conv.kernel_size[0], *wide_FCP.shape[1:]
        frames = len(wide_FCP) - taps + 1
        # Neighbouring frames lie one after another, so the windows of a convolution are there without a copy.
        windows_FKP = wide_FCP.as_strided((frames, taps * channels, pixels), (channels * pixels, pixels, 1))
        parts = [self._multiply(windows_FKP[some], weight_CK) for some in cut(frames)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _multiply(self, windows_FKP: torch.Tensor, weight_CK: torch.Tensor) -> torch.Tensor:
        frames, _, pixels = windows_FKP.shape
        weight_FCK = weight_CK.expand(frames, -1, -1)
        if self.conv.bias is None:
            return torch.bmm(weight_FCK, windows_FKP)
        return torch.baddbmm(self.conv.bias[:, None].expand(frames, -1, pixels), weight_FCK, windows_FKP)
