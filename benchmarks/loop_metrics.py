"""Does a video repeat itself, or come back to its first frame? From pixels alone, at every lag and not at one."""

import numpy as np
import torch


def self_likeness(frames_THWC: torch.Tensor, shortest: int) -> dict[str, float]:
    """Return how much a video is like itself at the lag at which it is most so, and that lag in frames.

    For every lag from `shortest` to half the video: the mean absolute difference of frames so far apart. `repeats` is the
    smallest of these over their median: 1 is a video of which no lag stands out, 0 one that repeats itself exactly.
    """
    small = torch.nn.functional.avg_pool2d(frames_THWC.permute(0, 3, 1, 2), 4).flatten(1)
    lags = range(shortest, len(small) // 2)
    if not lags:
        return {"repeats": float("nan"), "repeats after": float("nan")}
    apart = np.array([float((small[lag:] - small[:-lag]).abs().mean()) for lag in lags])
    return {"repeats": float(apart.min() / max(np.median(apart), 1e-6)), "repeats after": float(lags[int(apart.argmin())])}


def likeness_to_first(frames_THWC: torch.Tensor, parts: int) -> list[float]:
    """Return how far, 0 to 255, the frames of each of so many equal parts of a video are from its first, on average."""
    far = 255 * (frames_THWC - frames_THWC[0]).abs().flatten(1).mean(1)
    return [float(part.mean()) for part in far.tensor_split(parts)]


def return_to_first(frames_THWC: torch.Tensor, borders: tuple[int, ...], after: int) -> float:
    """Return how far a video is from its first frame at borders past frame `after`, over how far it is elsewhere past it.

    1 is one that returns to nothing; below it one whose clips or windows begin like the first frame.
    """
    far = (frames_THWC - frames_THWC[0]).abs().flatten(1).mean(1)[after:]
    at = torch.tensor([border - after for border in borders if border >= after], dtype=torch.long)
    return float(far[at].mean() / far.median().clamp(min=1e-6)) if len(at) else float("nan")
