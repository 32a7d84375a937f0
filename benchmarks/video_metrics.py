"""Score any video by its pixels alone: flicker, seams, drift, stagnation, repetition, loop. No weights, no reference.

Frames are float32 (T, H, W, 3), R G B in [0, 1]. A number that a video cannot have, such as the seams of a single clip or the
motion of a still picture, is NaN: it wins no comparison. `score` takes all of them at once.
"""

import math
from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from scipy.stats import mannwhitneyu

from benchmarks.flow_metrics import scene_cuts, warp_error

BINS = 8  # of a colour histogram, for each channel
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
STILL = 1e-3 / 255**2  # energy of a difference: one pixel in a thousand changes by one 8-bit level


@dataclass(frozen=True)
class Seam:
    """`ratio` is in [0, inf], 1 where borders are like any other place; `p` is in [0, 1], small where they are not."""

    ratio: float
    p: float


@dataclass(frozen=True)
class Drift:
    """Change per 100 frames: of the histogram's distance (in [0, 1]), of the channel means (of 1), of log sharpness."""

    histogram: float
    red: float
    green: float
    blue: float
    sharpness: float


@dataclass(frozen=True)
class Stagnation:
    """`slope` is of log energy per 100 frames; `ratio` is the last fifth's energy over the first's, near 1: motion goes on."""

    slope: float
    ratio: float


def flicker(frames_THWC: torch.Tensor) -> float:
    """Return VBench's temporal flickering score in [0, 1]: 1 minus the mean absolute difference of neighbouring frames.

    (255 - mae) / 255 of `vbench/temporal_flickering.py`, unlike there without rounding to 8 bits. VBench asks for scenes that
    ought to be still: motion lowers the score as flicker does, and a frozen video gets 1. Read it next to `stagnation`.
    """
    return 1 - _steps(frames_THWC).mean().item()


def seam_ratio(frames_THWC: torch.Tensor, borders: tuple[int, ...], order: int) -> Seam:
    """Return how much larger the change is where a clip begins: mean at the borders over mean inside the clips.

    Order 1 is the mean absolute difference across a step (a jump); order 2 is the mean absolute second difference at both its
    ends (a jolt: the picture is continuous, its velocity isn't). `p` is of a one-sided Mann-Whitney U test that borders are
    larger; it takes places as independent, which neighbouring frames are not quite. NaN without borders or without change.
    """
    last = len(frames_THWC) - order
    if order not in (1, 2):
        raise ValueError(f"wanted order 1 or 2, got {order}")
    if any(not order <= border <= last for border in borders):
        raise ValueError(f"wanted borders from {order} to {last}, got {borders}: leave out the first frame and the end")
    change = _steps(frames_THWC) if order == 1 else _bends(frames_THWC)
    change = change.round(decimals=6)  # what differs by rounding only must tie
    # A place next to a border shares a second difference with it.
    near = {border + offset for border in borders for offset in range(1 - order, order)}
    at = change[[border - order for border in borders]]
    inside = change[[place - order for place in range(order, last + 1) if place not in near]]
    if not len(at) or not len(inside) or not change.max():
        return Seam(math.nan, math.nan)
    return Seam((at.mean() / inside.mean()).item(), float(mannwhitneyu(at, inside, alternative="greater").pvalue))


def drift(frames_THWC: torch.Tensor, clip_length: int) -> Drift:
    """Return how fast clips leave the first one, by least squares over the clips, per 100 frames.

    The histogram has BINS bins a channel and its distance is total variation, averaged over the channels. Sharpness is the
    variance of the luma's Laplacian. NaN for fewer than three whole clips. The first clip is no point of the histogram's line:
    its distance from itself is 0, which would tilt the line of a video that only varies.
    """
    clips = [frames_THWC[start : start + clip_length] for start in range(0, len(frames_THWC), clip_length)]
    clips = [clip for clip in clips if len(clip) == clip_length]
    if len(clips) < 3:
        return Drift(*[math.nan] * 5)
    histograms = torch.stack([_histogram(clip) for clip in clips])
    means = torch.stack([clip.mean((0, 1, 2), dtype=torch.float64) for clip in clips])
    sharpness = torch.stack([_sharpness(clip) for clip in clips]).log()
    distance = (histograms - histograms[0]).abs().sum(-1).mean(-1) / 2
    curves = [distance[1:], *means.T, sharpness]
    return Drift(*(_slope(curve, every=clip_length) for curve in curves))


def stagnation(frames_THWC: torch.Tensor) -> Stagnation:
    """Return whether motion dies, from the mean squared difference of neighbouring frames; below 0 and below 1: it does.

    NaN where nothing moves in the first fifth. The logarithm of a frozen frame is taken at STILL.
    """
    energy = torch.stack([(after - this).square().mean() for this, after in pairwise(frames_THWC)]).double()
    fifth = max(1, len(energy) // 5)
    first, last = energy[:fifth].mean().item(), energy[-fifth:].mean().item()
    if first < STILL:
        return Stagnation(math.nan, math.nan)
    return Stagnation(_slope(energy.clamp(min=STILL).log(), every=1), last / first)


def repetition(frames_THWC: torch.Tensor, strides: tuple[int, ...]) -> tuple[float, ...]:
    """Return the autocorrelation of the video at each stride in frames, in [-1, 1]; 1 where it repeats exactly.

    Every pixel's mean over time is taken off first, so what stands still doesn't count. Slow motion is alike at every short
    stride: only compare videos at the same one. NaN in a still video and for a stride that reaches past the end.
    """
    if any(stride < 1 for stride in strides):
        raise ValueError(f"wanted strides of 1 frame or more, got {strides}")
    moving = frames_THWC - frames_THWC.mean(0)

    def autocorrelation(stride: int) -> float:
        early, late = moving[:-stride], moving[stride:]
        power = early.square().mean(dtype=torch.float64) * late.square().mean(dtype=torch.float64)
        if not len(early) or power.sqrt() < STILL:
            return math.nan
        return ((early * late).mean(dtype=torch.float64) / power.sqrt()).clamp(-1, 1).item()

    return tuple(autocorrelation(stride) for stride in strides)


def loop_closure(frames_THWC: torch.Tensor) -> float:
    """Return the mean absolute difference from the last frame to the first over the median one of neighbouring frames.

    About 1 in a loop, which has one more step like the others there; NaN where half of the steps change nothing.
    """
    closing = (frames_THWC[0] - frames_THWC[-1]).abs().mean().item()
    step = _steps(frames_THWC).median().item()
    return closing / step if step else math.nan


def score(
    frames_THWC: torch.Tensor, borders: tuple[int, ...], *, clip_length: int = 16, strides: tuple[int, ...] = (16,)
) -> dict[str, float | list[int]]:
    """Return every metric of a video by name; all are floats but `scene_cuts`, a list of frame numbers.

    `borders` are the frames where a clip begins, without 0. `drift_*` is measured over pieces of `clip_length`.
    """
    if frames_THWC.dtype != torch.float32 or frames_THWC.ndim != 4 or frames_THWC.shape[-1] != 3 or len(frames_THWC) < 3:
        raise ValueError(f"wanted 3 or more float32 frames (T, H, W, 3), got {frames_THWC.dtype} {tuple(frames_THWC.shape)}")
    low, high = frames_THWC.min().item(), frames_THWC.max().item()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"wanted frames in [0, 1], got {low:g} to {high:g}")
    warp, motion = warp_error(frames_THWC), stagnation(frames_THWC)
    jump, jolt = (seam_ratio(frames_THWC, borders, order) for order in (1, 2))
    return {
        "flicker": flicker(frames_THWC),
        "scene_cuts": scene_cuts(frames_THWC),
        "warp_error": warp.error,
        "flow": warp.flow,
        "seam_jump": jump.ratio,
        "seam_jump_p": jump.p,
        "seam_jolt": jolt.ratio,
        "seam_jolt_p": jolt.p,
        **{f"drift_{name}": slope for name, slope in asdict(drift(frames_THWC, clip_length)).items()},
        "stagnation_slope": motion.slope,
        "stagnation_ratio": motion.ratio,
        **{f"repetition_{stride}": value for stride, value in zip(strides, repetition(frames_THWC, strides))},
        "loop_closure": loop_closure(frames_THWC),
    }


def _steps(frames_THWC: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference of each frame from the one before it, (T - 1,); place 0 is frame 1."""
    return torch.stack([(after - this).abs().mean() for this, after in pairwise(frames_THWC)])


def _bends(frames_THWC: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute second difference at both ends of each step, (T - 3,); place 0 is frame 2."""
    triples = zip(frames_THWC, frames_THWC[1:], frames_THWC[2:])
    bends = torch.stack([(before - 2 * this + after).abs().mean() for before, this, after in triples])
    return (bends[:-1] + bends[1:]) / 2


def _histogram(frames_THWC: torch.Tensor) -> torch.Tensor:
    """Return a channel's share of pixels in each bin, (3, BINS).

    A value is split between its two nearest bins: with hard edges, noise on a flat background near one would move half of it.
    """
    place = frames_THWC.flatten(0, 2).T.double() * (BINS - 1)
    lower = place.long().clamp(max=BINS - 2)
    share = place - lower
    counts = torch.zeros(3, BINS, dtype=torch.float64).scatter_add_(1, lower, 1 - share).scatter_add_(1, lower + 1, share)
    return counts / place.shape[1]


def _sharpness(frames_THWC: torch.Tensor) -> torch.Tensor:
    """Return the mean over frames of the variance of the luma's Laplacian; at least 1e-12, so that it has a logarithm."""
    luma = frames_THWC @ torch.tensor(LUMA)
    middle = luma[:, 1:-1, 1:-1]
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    return (around - 4 * middle).double().flatten(1).var(1).mean().clamp(min=1e-12)


def _slope(values: torch.Tensor, every: int) -> float:
    """Return the least-squares slope per 100 frames of values that are `every` frames apart."""
    time = torch.arange(len(values), dtype=torch.float64) * every
    time = time - time.mean()
    return (100 * (time @ values) / (time @ time)).item()
