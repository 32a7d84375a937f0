"""What happens after each step of denoising: the video is shown and kept, and the ranks agree whether to go on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import SchedulerMixin

from ..comm.agree import agree
from ..job.errors import Stopped
from ..layers.view import View
from ..wire.snapshot import Snapshot
from . import snapshots
from .finite import is_finite, overflowed


@dataclass(frozen=True)
class BetweenSteps:
    """What a rank does with its clip between two steps."""

    view: View
    scheduler: SchedulerMixin
    steps: int  # of the whole run
    dtype: torch.dtype  # of the net
    latents_CTHW: torch.Tensor  # of the whole video, in shared memory
    snapshot: Snapshot | None
    report: Callable[[int], None]  # a step is done
    stopping: Callable[[], bool]

    def after(self, step: int, latents_BCFHW: torch.Tensor) -> None:
        """Show and keep the clip as it is after a step (from 1 on), unless it has numbers that are not finite.

        Collective. Raises, on all ranks, Overflowed if one has such numbers and Stopped if one is to stop, and OutOfStep.
        """
        shown_CFHW = latents_BCFHW[0].cpu()  # after each step, so that the host can show the video grow
        finite = is_finite(shown_CFHW)
        if finite:
            self._keep(step, shown_CFHW, latents_BCFHW)
        at = f"at step {step} of {self.steps}"
        # All ranks alike, and so no rank is a step ahead of what another has kept.
        stopped, overflow = agree(self.stopping(), not finite, group=self.view.group, at=at)
        if overflow or stopped:
            self.view.call.kept.drain()  # as all ranks do now; after a fault nobody may wait for anybody
        if overflow:
            raise overflowed(self.dtype, at)
        if stopped:
            raise Stopped("stopped between two steps")

    def _keep(self, step: int, shown_CFHW: torch.Tensor, latents_BCFHW: torch.Tensor) -> None:
        clip = self.view.clip
        self.latents_CTHW[:, clip.start : clip.stop] = shown_CFHW
        if step > self.steps:  # there were none left to run, and `sample` yields once what the clip started from
            return
        if self.snapshot is not None:
            snapshots.save(self.snapshot, step, clip, latents_BCFHW, self.scheduler)
        self.report(step)
