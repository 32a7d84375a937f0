"""The conditioning of each frame, in place of the embeddings that diffusers would repeat for every frame of the video."""

from dataclasses import dataclass, replace

import torch

from ..maths import prompts
from .guidance import NEGATIVE


@dataclass(frozen=True)
class Images:
    """What a net that makes videos from images gets of them, the same in all branches."""

    channels_BCFHW: torch.Tensor  # beside a clip's latents: which frames are given, and what they show
    tokens_FLD: torch.Tensor | None = None  # of some pictures, beside a prompt's


@dataclass(frozen=True)
class Conditioning:
    """Embeddings of some branches by frame, (B x F, L, D), made when a slice of frames asks for them."""

    prompts_SLD: torch.Tensor  # the negative one, then the timeline's
    shares: prompts.Shares
    branches: range

    @property
    def frames(self) -> int:
        """How many frames the clip has, as the layers count them: latents (view.py)."""
        return len(self.shares.share)

    @property
    def shape(self) -> tuple[int]:
        """As a UNet asks for it: how many branches."""
        return (len(self.branches),)

    def of(self, branches: range) -> "Conditioning":
        """Return that of some branches alone."""
        return replace(self, branches=branches)

    def repeat_interleave(self, repeats: int, **_: int) -> "Conditioning":
        """Be what a UNet makes of its embeddings, one copy a frame, without any copy."""
        assert repeats == self.frames
        return self

    def rows(self, cut: slice) -> torch.Tensor:
        """Return the embeddings of some rows. They lie branch after branch: row = place of the branch * frames + frame."""
        parts = []
        for place, branch in enumerate(self.branches):
            first_row = place * self.frames
            start, stop = max(cut.start - first_row, 0), min(cut.stop - first_row, self.frames)
            if start < stop:
                parts.append(self.embed(branch, slice(start, stop)))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def runs(self, branch: int) -> list[slice]:
        """Return consecutive frames that hear the same in a branch."""
        if branch == NEGATIVE:
            return [slice(0, self.frames)]
        return self.shares.runs

    def embed(self, branch: int, frames: slice) -> torch.Tensor:
        """Return one branch's embeddings of some frames, (F, L, D)."""
        if branch == NEGATIVE:
            return self.prompts_SLD[:1].expand(frames.stop - frames.start, -1, -1)
        return prompts.blend(self.prompts_SLD[1:], self.shares, frames)
