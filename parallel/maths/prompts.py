"""Prompt timeline -> what each frame hears, by its number alone."""

from bisect import bisect_right

import torch


def hear(frame: int, starts: tuple[int, ...], fade: int, loop: bool) -> tuple[int, int, float]:
    """Return (prompt before, prompt now, share of the prompt now) for a frame.

    `starts` are the prompts' first frames, ascending from 0. A prompt takes over in `fade` frames from its start on, so
    that frames before it never hear it. With `loop` the last prompt leads into the first.
    """
    now = bisect_right(starts, frame) - 1
    before = now - 1 if now > 0 else (len(starts) - 1 if loop else 0)
    share = min(1.0, (frame - starts[now] + 1) / (fade + 1))
    return before, now, share


def blend(prompts_SLD: torch.Tensor, frames: range, starts: tuple[int, ...], fade: int, loop: bool) -> torch.Tensor:
    """Return each frame's prompt embedding (F, L, D) from those of the timeline's S prompts."""
    heard = [hear(frame, starts, fade, loop) for frame in frames]
    before, now = (torch.tensor([h[i] for h in heard], device=prompts_SLD.device) for i in (0, 1))
    share = torch.tensor([h[2] for h in heard], device=prompts_SLD.device).to(prompts_SLD.dtype)
    return torch.lerp(prompts_SLD[before], prompts_SLD[now], share[:, None, None])
