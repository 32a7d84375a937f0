"""Prompt timeline -> the prompts of each frame and their shares, by its number alone."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch


@dataclass(frozen=True)
class Timeline:
    """When prompts hold, in a video of `frames` frames."""

    frames: int
    starts: tuple[int, ...]  # the prompts' first frames, ascending from 0
    fade: int = 0  # frames over which a prompt takes over from the one before
    loop: bool = False


def at(frame: int, timeline: Timeline) -> tuple[int, int, float]:
    """Return (number of the prompt before, of the prompt now, share of the prompt now, in (0, 1]) for a frame.

    A prompt takes over in `fade` frames from its start on, so that frames before it have none of it; in fewer where
    the next prompt comes sooner, so that a frame has two at most. With `loop` the last prompt leads into the first.
    """
    starts = timeline.starts
    now = bisect_right(starts, frame) - 1
    before = now - 1 if now > 0 else (len(starts) - 1 if timeline.loop else 0)
    end = starts[now + 1] if now + 1 < len(starts) else timeline.frames
    last = now + 1 == len(starts) and not timeline.loop
    fade = timeline.fade if last else min(timeline.fade, end - starts[now] - 1)
    return before, now, min(1.0, (frame - starts[now] + 1) / (fade + 1))


@dataclass(frozen=True)
class Shares:
    """The prompts of each frame of a clip: numbers of two, int64 (F,), and the second one's share, float32 (F,)."""

    before: torch.Tensor
    now: torch.Tensor
    share: torch.Tensor

    @cached_property
    def runs(self) -> list[slice]:
        """Consecutive frames that hear the same; the first to ask waits for the device."""
        before, now, share = (each.tolist() for each in (self.before, self.now, self.share))
        heard = [(now[f],) if share[f] == 1 else (before[f], now[f], share[f]) for f in range(len(now))]
        starts = [frame for frame in range(len(now)) if frame == 0 or heard[frame] != heard[frame - 1]]
        return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(now)])]

    def to(self, device: torch.device) -> "Shares":
        """Return the same on a device."""
        return Shares(self.before.to(device), self.now.to(device), self.share.to(device))

    def narrow(self, texts: Sequence[int]) -> tuple[list[int], "Shares"]:
        """Return the numbers of the texts that the clip needs, ascending, and shares that count in these.

        `texts` has the number of each prompt's text: prompts that say the same are one.
        """
        numbers = torch.tensor(texts)
        before, now = numbers[self.before], numbers[self.now]
        needed = torch.cat([before, now]).unique()
        return needed.tolist(), Shares(torch.searchsorted(needed, before), torch.searchsorted(needed, now), self.share)


def share(frames: Iterable[int], timeline: Timeline) -> Shares:
    """Return the shares of some frames."""
    before, now, shares = zip(*(at(frame, timeline) for frame in frames))
    return Shares(torch.tensor(before), torch.tensor(now), torch.tensor(shares))


def blend(prompts_SLD: torch.Tensor, shares: Shares, cut: slice) -> torch.Tensor:
    """Return the prompt embedding (F, L, D) of some of a clip's frames from those of the timeline's S prompts."""
    weight = shares.share[cut].to(prompts_SLD.dtype)[:, None, None]
    return torch.lerp(prompts_SLD[shares.before[cut]], prompts_SLD[shares.now[cut]], weight)
