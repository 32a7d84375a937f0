"""What holds a clip's keyframes while the rest is made: nothing, a net's condition channels, or the latents themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import SchedulerMixin

from ..job.job import Job
from ..layers.conditioning import Images
from . import schedule
from .finite import is_finite


class Pins:
    """No keyframes. What a clip is before a step, what of it a net is shown, and what it guesses are left as they are.

    A step is that of the job's whole schedule, from 0; `left` are the timesteps from it on, none when all are done.
    """

    @property
    def finite(self) -> bool:
        """Whether all numbers are finite."""
        return True

    def put(self, latents_BCFHW: torch.Tensor, step: int, scheduler: SchedulerMixin, left: torch.Tensor) -> torch.Tensor:
        """Return latents as they are to be before a step, or when none is left."""
        return latents_BCFHW

    def show(self, x_BCFHW: torch.Tensor, timestep: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what a net is shown of latents in a step, and the timestep, or each latent's."""
        return x_BCFHW, timestep

    def images(self, step: int) -> Images | None:
        """Return what a net gets of images in a step."""
        return None

    def correct(self, guess_BCFHW: torch.Tensor, step: int) -> torch.Tensor:
        """Return a net's guess in a step, right where it is known."""
        return guess_BCFHW


@dataclass(frozen=True)
class Conditions(Pins):
    """A net's condition channels, and for how many steps each holds: all keyframes', then those' that hold longer."""

    until: tuple[int, ...]
    each: tuple[Images, ...]

    @property
    def finite(self) -> bool:
        return all(is_finite(images.channels_BCFHW) for images in self.each)

    def images(self, step: int) -> Images | None:
        now = sum(end <= step for end in self.until)
        return self.each[min(now, len(self.each) - 1)]


@dataclass(frozen=True)
class Held(Pins):
    """Latents of a clip that are known: each is kept at the noise of the step, made of its own, until its last step."""

    places: torch.Tensor  # of those in the clip
    latents_BCFHW: torch.Tensor  # of these alone
    noise_BCFHW: torch.Tensor
    until: tuple[int, ...]
    own_time: bool  # the net is shown them without noise, at time 0, and all others at the step's

    @property
    def finite(self) -> bool:
        return is_finite(self.latents_BCFHW)

    def put(self, latents_BCFHW: torch.Tensor, step: int, scheduler: SchedulerMixin, left: torch.Tensor) -> torch.Tensor:
        some = self._where([end >= step for end in self.until])
        if not len(some):
            return latents_BCFHW
        noised = schedule.add_noise(scheduler, self.latents_BCFHW[:, :, some], self.noise_BCFHW[:, :, some], left)
        return latents_BCFHW.index_copy(2, self.places[some], noised)

    def show(self, x_BCFHW: torch.Tensor, timestep: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.own_time:
            return x_BCFHW, timestep
        some = self._now(step)
        times = timestep.expand(x_BCFHW.shape[2]).index_fill(0, self.places[some], 0)
        return x_BCFHW.index_copy(2, self.places[some], self.latents_BCFHW[:, :, some]), times

    def correct(self, guess_BCFHW: torch.Tensor, step: int) -> torch.Tensor:
        """Return the guess with the true flow of what the net was shown without noise: schedulers remember guesses."""
        if not self.own_time:
            return guess_BCFHW
        some = self._now(step)
        flow = self.noise_BCFHW[:, :, some] - self.latents_BCFHW[:, :, some]
        return guess_BCFHW.index_copy(2, self.places[some], flow)

    def _now(self, step: int) -> torch.Tensor:
        return self._where([end > step for end in self.until])

    def _where(self, flags: Sequence[bool]) -> torch.Tensor:
        numbers = [number for number, flag in enumerate(flags) if flag]
        return torch.tensor(numbers, dtype=torch.long, device=self.places.device)


def steps_of(job: Job, strength: float) -> int:
    """Return for how many steps of the whole schedule a keyframe of a strength holds, at least one."""
    return max(1, round(job.num_inference_steps * strength))
