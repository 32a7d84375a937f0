"""Group norm whose statistics run over all frames of the video, over a cut time axis."""

import torch
from torch import nn

from ..comm import reduce
from ..maths import moments
from .view import View


class FrameGroupNorm(nn.Module):
    """Stands in for a GroupNorm on x_BCFHW."""

    def __init__(self, norm: nn.GroupNorm, view: View):
        super().__init__()
        self.norm = norm
        self.group = view.group

    def forward(self, x_BCFHW: torch.Tensor) -> torch.Tensor:
        own = moments.measure(x_BCFHW, self.norm.num_groups)
        return moments.normalize(x_BCFHW, *reduce.moments(own, self.group), self.norm)
