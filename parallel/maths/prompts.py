"""Prompt timeline -> what each frame hears, by its number alone."""

from bisect import bisect_right
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timeline:
    """When prompts are heard, in a video of `frames` frames."""

    frames: int
    starts: tuple[int, ...]  # the prompts' first frames, ascending from 0
    fade: int = 0  # frames over which a prompt takes over from the one before
    loop: bool = False


def hear(frame: int, timeline: Timeline) -> tuple[int, int, float]:
    """Return (number of the prompt before, of the prompt now, share of the prompt now, in (0, 1]) for a frame.

    A prompt takes over in `fade` frames from its start on, so that frames before it never hear it; in fewer where the
    next prompt comes sooner, so that only two are ever heard. With `loop` the last prompt leads into the first.
    """
    starts = timeline.starts
    now = bisect_right(starts, frame) - 1
    before = now - 1 if now > 0 else (len(starts) - 1 if timeline.loop else 0)
    end = starts[now + 1] if now + 1 < len(starts) else timeline.frames
    last = now + 1 == len(starts) and not timeline.loop
    fade = timeline.fade if last else min(timeline.fade, end - starts[now] - 1)
    return before, now, min(1.0, (frame - starts[now] + 1) / (fade + 1))


def blend(prompts_SLD: torch.Tensor, clip: range, timeline: Timeline) -> torch.Tensor:
    """Return each frame's prompt embedding (F, L, D) from those of the timeline's S prompts."""
    heard = [hear(frame, timeline) for frame in clip]
    before, now = (torch.tensor([h[i] for h in heard], device=prompts_SLD.device) for i in (0, 1))
    share = torch.tensor([h[2] for h in heard], device=prompts_SLD.device).to(prompts_SLD.dtype)
    return torch.lerp(prompts_SLD[before], prompts_SLD[now], share[:, None, None])
