"""What OpenCV sees in a video: where it cuts to another scene, and how well its motion explains the next frame.

Frames are float32 (T, H, W, 3), R G B in [0, 1].
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
from scenedetect import ContentDetector, FrameTimecode

NOISE = 2  # 8-bit levels of grey
PATCH = np.ones((9, 9), np.uint8)  # DIS matches patches of 8 pixels
MIN_FLOW = 0.02  # pixels a frame, averaged over the picture; below it a video counts as still


@dataclass(frozen=True)
class Warp:
    """`error` is a share of [0, 1] a pixel of motion, NaN in a still video; `flow` is the mean motion in pixels a frame."""

    error: float
    flow: float


def scene_cuts(frames_THWC: torch.Tensor) -> list[int]:
    """Return the numbers of the frames that begin a new scene, for PySceneDetect's ContentDetector at its threshold of 27.

    Unlike its default there is no shortest scene: that one merges cuts that are less than 15 frames apart, and our clips are
    as short. It compares hue, saturation and value pixel by pixel, so a jump of a small shape on an unchanged background is
    no cut; `seam_ratio` sees it. Hue is taken as a line: red to a slightly bluer red is a cut, and on grey, where hue means
    nothing, noise of 13 levels gives cuts.
    """
    detector = ContentDetector(min_scene_len=0)
    cuts: list[FrameTimecode] = []
    for number, frame in enumerate(_eight_bit(frames_THWC)):
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        cuts += detector.process_frame(FrameTimecode(number, fps=24.0), bgr)  # any rate will do: we count frames
    return [cut.frame_num for cut in cuts]


def warp_error(frames_THWC: torch.Tensor) -> Warp:
    """Return how badly optical flow explains the next frame: mean absolute error after warping it back, a pixel of motion.

    Smaller is better, 0 is perfect. Flow is OpenCV's DIS (arXiv 1603.03590), medium preset, on grey; the error is on RGB.
    The plain warping error (arXiv 1808.00449) is least in a still video. Here it is divided by the mean flow, and a video
    that moves less than MIN_FLOW has none: NaN. Where no pixel of a patch changes by more than NOISE the flow is taken as 0: on
    a flat background DIS finds 0.8 pixels of it in noise of one level. Unlike the paper: no mask, so uncovered background
    counts as an error.
    """
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    bytes_THWC = _eight_bit(frames_THWC)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in bytes_THWC]
    grid = np.stack(np.meshgrid(*(np.arange(size, dtype=np.float32) for size in grey[0].shape[::-1])), axis=-1)
    errors, flows = [], []
    for (this, after), (this_grey, after_grey) in zip(pairwise(bytes_THWC), pairwise(grey)):
        flow_HW2 = dis.calc(this_grey, after_grey, None)
        back = cv2.remap(after, grid + flow_HW2, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        errors.append(cv2.absdiff(back, this).mean() / 255)
        changed = cv2.dilate((cv2.absdiff(this_grey, after_grey) > NOISE).astype(np.uint8), PATCH)
        flows.append((np.linalg.norm(flow_HW2, axis=-1) * changed).mean())
    flow = float(np.mean(flows))
    return Warp(float(np.mean(errors)) / flow if flow >= MIN_FLOW else math.nan, flow)


def _eight_bit(frames_THWC: torch.Tensor) -> np.ndarray:
    return (frames_THWC * 255).round().clamp(0, 255).byte().numpy()
