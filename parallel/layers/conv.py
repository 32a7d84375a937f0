"""A normalised temporal convolution over a cut time axis: group norm, activation, (k, 1, 1) convolution; one exchange.

A norm before a convolution would need two exchanges, one for the moments and one for the normalised edge frames. Here the
moments go to everyone together with raw edge frames to the neighbours, and the receiver treats the edges as its own.
"""

import torch
from torch import nn
from torch.nn.functional import conv3d

from ..comm.fetch import fetch
from ..maths import moments
from .view import View

TIME = 2  # of x_BCFHW


class NormConv(nn.Module):
    """Stands in for a `Sequential(GroupNorm, activation, [Dropout,] Conv3d)` whose convolution pads only time."""

    def __init__(self, layers: nn.Sequential, view: View):
        super().__init__()
        norm, *between, conv = layers
        assert isinstance(norm, nn.GroupNorm) and isinstance(conv, nn.Conv3d)
        self.norm, self.between, self.conv = norm, nn.Sequential(*between), conv
        kernel, pad = self.conv.kernel_size, self.conv.padding
        assert kernel[1:] == (1, 1) and pad == (kernel[0] // 2, 0, 0) and self.conv.stride == (1, 1, 1)
        self.halo = view.halo(pad[0])
        self.group = view.group

    def forward(self, x_BCFHW: torch.Tensor) -> torch.Tensor:
        own = moments.measure(x_BCFHW, self.norm.num_groups)
        edges, parts = fetch(x_BCFHW, TIME, self.halo.lane, self.group, note=own).wait()
        assert parts is not None
        x = self.between(moments.normalize(self._widen(x_BCFHW, edges), *moments.merge(parts), self.norm))
        # The model was trained with zeros beyond the ends, after norm and activation.
        x[:, :, : self.halo.before] = 0
        x[:, :, x.shape[TIME] - self.halo.after :] = 0
        return conv3d(x, self.conv.weight, self.conv.bias)

    def _widen(self, x_BCFHW: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        """Put the halo on both sides; where the video ends, any finite frame will do, as it is zeroed later."""
        halo, frames = self.halo, x_BCFHW.shape[TIME]
        before, after = x_BCFHW[:, :, :1], x_BCFHW[:, :, -1:]
        return torch.cat(
            [
                *[before] * halo.before,
                *[_pick(x_BCFHW, edges, place, frames) for place in halo.left],
                x_BCFHW,
                *[_pick(x_BCFHW, edges, place, frames) for place in halo.right],
                *[after] * halo.after,
            ],
            dim=TIME,
        )


def _pick(own: torch.Tensor, edges: torch.Tensor, place: int, frames: int) -> torch.Tensor:
    return own.narrow(TIME, place, 1) if place < frames else edges.narrow(TIME, place - frames, 1)
