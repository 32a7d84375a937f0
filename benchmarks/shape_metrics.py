"""What the tracked shape of a moving-shapes video does: seams at borders, motion, identity over time, a prompt's arrival.

All from benchmarks/tracker.py's reading of pixels. Long videos are read in windows, so that what changes on the way is seen.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import mannwhitneyu

from benchmarks.tracker import UNCLEAR, Track, track
from scripts.shapes import PERIOD, Scene

WINDOW = PERIOD  # frames read at once: one orbit, or one bounce there and back
ROUND = ("shape", "colour", "background")  # what makes a shape the same one
JUMP = 3.0  # times the median step of a video: what a shape that only moves never does
VISIBLE = 4  # frames read at once to see when a prompt arrives


@dataclass(frozen=True)
class Reading:
    """A video, read in windows of WINDOW frames (the last one longer). `centres` (T, 2) in pixels, NaN where nothing is."""

    tracks: tuple[Track, ...]
    starts: tuple[int, ...]
    centres: torch.Tensor


def read(frames_THWC: torch.Tensor) -> Reading:
    """Return what a video shows, window by window."""
    starts = tuple(range(0, max(1, len(frames_THWC) - WINDOW + 1), WINDOW))
    ends = (*starts[1:], len(frames_THWC))
    tracks = tuple(track(frames_THWC[start:end]) for start, end in zip(starts, ends))
    return Reading(tracks, starts, torch.cat([each.centres for each in tracks]))


def steps(centres: torch.Tensor) -> np.ndarray:
    """Return how far the shape moves into each frame from the one before, in pixels, (T - 1,)."""
    return (centres[1:] - centres[:-1]).norm(dim=1).numpy()


def turns(centres: torch.Tensor) -> np.ndarray:
    """Return how much its velocity changes between neighbouring steps, in pixels a frame, (T - 2,)."""
    velocity = centres[1:] - centres[:-1]
    return (velocity[1:] - velocity[:-1]).norm(dim=1).numpy()


def at_borders(values: np.ndarray, borders: tuple[int, ...], *, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Part what is known of each frame from `reach` on into (at borders, inside clips), without NaN.

    A value belongs to a border if it spans it: one that compares `reach` frames before a frame with it does so `reach` times.
    """
    frames = np.arange(len(values)) + reach
    border = np.isin(frames, [start + more for start in borders for more in range(reach)])
    known = ~np.isnan(values)
    return values[border & known], values[~border & known]


def border_p(border: np.ndarray, inside: np.ndarray) -> float:
    """Return the p-value of a one-sided rank test that values at borders are the larger ones; NaN without any."""
    if not len(border) or not len(inside):
        return float("nan")
    border, inside = (part.round(4) for part in (border, inside))  # what differs by rounding only must tie
    return float(mannwhitneyu(border, inside, alternative="greater").pvalue)


def seams(reading: Reading, borders: tuple[int, ...]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return steps and changes of velocity, each (at borders, inside)."""
    found = {"position": (steps(reading.centres), 1), "velocity": (turns(reading.centres), 2)}
    return {name: at_borders(values, borders, reach=reach) for name, (values, reach) in found.items()}


def motion(reading: Reading, scene: Scene) -> dict[str, float]:
    """Return shares and ratios: 1 (or 0 for `teleports`, `unsteady`) is what was asked for.

    `seen`: frames with a shape. `as captioned`: windows whose motion is the caption's. `unsteady`: standard deviation of the
    speed over its mean. `teleports`: a thousand frames. `speed`: median step, pixels a frame (a mean would count jumps).
    `period`: how alike the path is one PERIOD later.
    """
    moved = steps(reading.centres)
    moved = moved[~np.isnan(moved)]
    seen = float(torch.cat([each.seen for each in reading.tracks]).float().mean())
    if not len(moved):
        return {
            "seen": seen,
            "as captioned": 0.0,
            "unsteady": float("nan"),
            "teleports": float("nan"),
            "speed": 0.0,
            "period": 0.0,
        }
    return {
        "seen": seen,
        "as captioned": float(np.mean([each.motion == scene.motion for each in reading.tracks])),
        "unsteady": float(moved.std() / max(moved.mean(), 1e-6)),
        "teleports": 1000 * float(np.mean(moved > JUMP * max(np.median(moved), 1.0))),
        "speed": float(np.median(moved)),
        "period": period_kept(reading.centres),
    }


def period_kept(centres: torch.Tensor) -> float:
    """Return the autocorrelation of the path at one PERIOD, in [-1, 1]: 1 if it comes back to where it was, all along."""
    around = centres - centres.nanmean(0)
    early, late = around[:-PERIOD], around[PERIOD:]
    known = ~(early.isnan() | late.isnan()).any(1)
    if len(centres) <= PERIOD or not known.any():
        return float("nan")
    early, late = early[known], late[known]
    return float((early * late).sum() / (early.norm() * late.norm()).clamp(min=1e-6))


def identity(reading: Reading) -> dict[str, dict[int, float]]:
    """Return for each of ROUND, by the frame that a window begins with, 1 if it is as in the first window, else 0.

    Windows and not frames: a bounce's blur, or a shape that leaves a corner behind, is read rightly from 24 of them. What is not
    clear is like nothing.
    """
    first = reading.tracks[0]

    def same(part: str, each: Track) -> float:
        return float(getattr(each, part) == getattr(first, part) != UNCLEAR)

    return {part: {start: same(part, each) for start, each in zip(reading.starts, reading.tracks)} for part in ROUND}


def arrival(frames_THWC: torch.Tensor, switch: int, scene: Scene) -> float:
    """Return how many frames after `switch` a scene's colour is first seen, in VISIBLE frames in a row; NaN if never.

    It is looked for in the whole video: a prompt that shows too early gives a number below 0.
    """
    for start in range(len(frames_THWC) - VISIBLE + 1):
        if track(frames_THWC[start : start + VISIBLE]).colour == scene.colour:
            return float(start - switch)
    return float("nan")


def jitter(frames_THWC: torch.Tensor) -> float:
    """Return the mean absolute second difference of pixels, 0 to 255: flicker, without the motion that goes on evenly."""
    return 255 * float((frames_THWC[2:] - 2 * frames_THWC[1:-1] + frames_THWC[:-2]).abs().mean())


def differences(x_T: torch.Tensor) -> np.ndarray:
    """Return the mean absolute difference of each frame from the one before, (T - 1,), of frames first."""
    return (x_T[1:] - x_T[:-1]).flatten(1).abs().mean(1).numpy()
