"""Score any video that was joined of clips, by anything: `python -m benchmarks.coherence --video FILE --clips N`."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import av
import torch

from benchmarks import video_metrics
from parallel.maths import clips

MOST_PIXELS = 256  # on a video's longer side: what it is scored at
MOST_FRAMES = 2_400  # five minutes at 8 a second; about 2 GB, and as much again while they are compared
CLIP = 16  # frames over which drift is measured, and a stride of repetition


def read(file: Path) -> torch.Tensor:
    """Return a video's frames, (T, H, W, 3) in [0, 1], at most MOST_PIXELS long. Raises ValueError on what is none, or too long."""
    frames = []
    try:
        with av.open(str(file)) as container:
            if not container.streams.video:
                raise ValueError(f"wanted a file with a video in it, got {file}")
            for frame in container.decode(video=0):
                if len(frames) == MOST_FRAMES:
                    raise ValueError(f"wanted at most {MOST_FRAMES} frames, got more in {file}: cut it into parts")
                shrink = min(1.0, MOST_PIXELS / max(frame.width, frame.height))
                small = frame.reformat(round(frame.width * shrink), round(frame.height * shrink), "rgb24")
                frames.append(torch.from_numpy(small.to_ndarray()))
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"wanted a video file, got {file} ({error})") from None
    if len(frames) < 3:
        raise ValueError(f"wanted 3 frames or more, got {len(frames)} in {file}")
    return torch.stack(frames).float() / 255


def score(file: Path, count: int) -> dict[str, Any]:
    """Return the general metrics of a video of `count` clips; raises ValueError, as `read` does, on clips that can't be."""
    frames = read(file)
    most = len(frames) // 3  # a seam's velocity wants two frames on either side, and some inside
    if not 1 <= count <= most:
        raise ValueError(f"wanted 1 to {most} clips for {len(frames)} frames, got {count}: say of how many it was joined")
    borders = tuple(clip.start for clip in clips.cut(len(frames), count) if clip.start)
    strides = (CLIP, len(frames) // count)
    found = video_metrics.score(frames, borders, clip_length=min(CLIP, len(frames)), strides=strides)
    return {"frames": len(frames), "borders": borders, **found}


def main(file: Path, count: int) -> int:
    """Print the scores as JSON, which knows no NaN; return the exit code, 2 for wrong input."""
    try:
        found = score(file, count)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    known = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in found.items()}
    print(json.dumps(known, indent=1))
    return 0
