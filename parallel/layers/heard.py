"""What each frame hears, in place of the embeddings that diffusers would repeat for every frame of the video."""

from dataclasses import dataclass

import torch

from ..maths import prompts

NEGATIVE, POSITIVE = 0, 1  # the branches of classifier-free guidance, in diffusers' order


@dataclass(frozen=True)
class Heard:
    """Embeddings of some branches by frame, (B x F, L, D), made when a slice of frames asks for them."""

    prompts_SLD: torch.Tensor  # the negative one, then the timeline's
    shares: prompts.Shares
    branches: range

    @property
    def shape(self) -> tuple[int]:
        """As a UNet asks for it: how many branches."""
        return (len(self.branches),)

    def repeat_interleave(self, repeats: int, **_: int) -> "Heard":
        """Be what a UNet makes of its embeddings, one copy a frame, without any copy."""
        assert repeats == len(self.shares.share)
        return self

    def rows(self, cut: slice) -> torch.Tensor:
        """Return the embeddings of some rows, branch after branch, each of all frames."""
        frames, parts = len(self.shares.share), []
        for place, branch in enumerate(self.branches):
            start, stop = (min(max(edge - place * frames, 0), frames) for edge in (cut.start, cut.stop))
            if start < stop and branch == NEGATIVE:
                parts.append(self.prompts_SLD[:1].expand(stop - start, -1, -1))
            elif start < stop:
                parts.append(prompts.blend(self.prompts_SLD[1:], self.shares, slice(start, stop)))
        return parts[0] if len(parts) == 1 else torch.cat(parts)
