"""The video between two steps, in shared memory: what a restart goes on from.

Two slots take turns, so that one is whole while ranks write the other. It is written by number in the video and names no rank:
any number of ranks can go on from it (law 1).
"""

from dataclasses import dataclass

import torch

from .messages import MARK_ROWS, SLOTS

DECODED, TAKEN = SLOTS, SLOTS + 1  # the rows of marks that say which frames are decoded, and which the host has taken away


@dataclass(frozen=True)
class Snapshot:
    """Tensors of both slots, and marks that say of each latent which step it is from, and of each frame how far it is.

    Planes are (SLOTS, S, C, T, h, w) float32: the latents, then what a multistep scheduler remembers. Marks are
    (MARK_ROWS, T or more) int64: the step of each slot's latents (0: none), then two rows for the frames: whether each is decoded, and
    whether it is taken, where the host empties their block as it fills.
    """

    planes: torch.Tensor
    marks: torch.Tensor

    @property
    def _steps(self) -> torch.Tensor:
        """The step that each slot's latents are from, (SLOTS, T)."""
        return self.marks[:SLOTS, : self.planes.shape[3]]

    def write_clip(self, step: int, clip: range, parts_BCFHW: list[torch.Tensor | None]) -> None:
        """Write a clip as it is after `step` (from 1 on): its latents, then the scheduler's history.

        Every rank must have written the step before: a slot is written over by the step after next.
        """
        slot, own = step % SLOTS, slice(clip.start, clip.stop)
        self._steps[slot, own] = 0
        for plane, part in zip(self.planes[slot], parts_BCFHW, strict=True):
            if part is not None:
                plane[:, own] = part[0].cpu()
        self._steps[slot, own] = step

    def read_clip(self, step: int, clip: range) -> list[torch.Tensor]:
        """Return what `write_clip` wrote of a clip, (1, C, F, h, w) each, of a step that is whole."""
        return [plane[:, clip.start : clip.stop][None].clone() for plane in self.planes[step % SLOTS]]

    def write_video(self, step: int, planes: torch.Tensor) -> None:
        """Write a step of the whole video, (S, C, T, h, w), before any rank works."""
        self.planes[step % SLOTS] = planes
        self._steps[step % SLOTS] = step

    def whole(self) -> int:
        """Return the last step of which every latent is there, 0 if there is none."""
        slots = self._steps.clone()  # read once: ranks write on meanwhile
        same = (slots == slots[:, :1]).all(dim=1)
        return int((slots[:, 0] * same).max())

    def copy(self) -> tuple[int, torch.Tensor]:
        """Return the last whole step and a copy of its planes, taken while ranks may work on; (0, empty) if there is none."""
        while step := self.whole():
            planes = self.planes[step % SLOTS].clone()
            if bool((self._steps[step % SLOTS] == step).all()):
                return step, planes
        return 0, self.planes[0, :0]

    def mark_decoded(self, frames: list[int]) -> None:
        """Say that some frames of the video are decoded, and in their block."""
        self.marks[DECODED, frames] = 1

    def missing(self, frames: range) -> list[int]:
        """Return those of a clip's frames that are not decoded yet."""
        return [frame for frame in frames if not self.marks[DECODED, frame]]

    def mark_taken(self, frames: list[int]) -> None:
        """Say that some frames have left their block, which does not hold them any more."""
        self.marks[TAKEN, frames] = 1

    def held(self, frames: list[int]) -> list[int]:
        """Return those of some decoded frames that their block still holds."""
        return [frame for frame in frames if not self.marks[TAKEN, frame]]

    def waiting(self) -> list[int]:
        """Return all frames that are decoded and not taken, ascending."""
        return (self.marks[DECODED] > self.marks[TAKEN]).nonzero().flatten().tolist()


def shapes(latents_CTHW: tuple[int, ...], history: int, frames: int | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of the planes and of the marks, for a scheduler that remembers `history` tensors.

    `frames` are those of the video; None: as many as latents.
    """
    latents = latents_CTHW[1]
    return (SLOTS, 1 + history, *latents_CTHW), (MARK_ROWS, max(latents, frames or latents))
