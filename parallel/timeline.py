"""The text form of a prompt timeline: one prompt a line, `FRAME: text` or `SECONDSs: text`."""

import re

from .errors import JobRefused
from .protocol import MAX_FPS, MAX_TEXT, Prompt, checked

_LINE = re.compile(r"\s*(?P<number>[0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(?P<seconds>s?)\s*:\s*(?P<text>.*\S)\s*")


def parse(text: str, *, fps: float, frames: int) -> tuple[Prompt, ...]:
    """Return the prompts of a timeline text; empty lines and lines that begin with # are skipped.

    Raises JobRefused that names the line: not of the form, not sorted, or past the end of the video.
    """
    if not 0 < fps <= MAX_FPS:
        raise JobRefused(f"fps: wanted more than 0 and at most {MAX_FPS}, got {fps:g}")
    prompts: list[Prompt] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        frame, said = _parse_line(line, number, fps)
        if prompts and frame <= prompts[-1].frame:
            raise JobRefused(
                f"timeline line {number}: frame {frame} does not come after frame {prompts[-1].frame}: "
                "sort the lines, one prompt a frame"
            )
        if frame >= frames:
            raise JobRefused(
                f"timeline line {number}: frame {frame} is past the end of a video of {frames} frames: "
                f"use frames 0 to {frames - 1}"
            )
        prompts.append(checked(Prompt, frame=frame, text=said))
    if not prompts or prompts[0].frame != 0:
        raise JobRefused("timeline: no prompt for frame 0: begin with a line such as `0: a cat wakes`")
    return tuple(prompts)


def _parse_line(line: str, number: int, fps: float) -> tuple[int, str]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise JobRefused(f"timeline line {number}: wanted `FRAME: text` or `SECONDSs: text`, got {line[:60]!r}")
    if len(match["text"]) > MAX_TEXT:
        raise JobRefused(f"timeline line {number}: text: wanted at most {MAX_TEXT} characters, got {len(match['text'])}")
    if match["seconds"]:
        frame = round(float(match["number"]) * fps)
    elif "." in match["number"]:
        raise JobRefused(f"timeline line {number}: frame {match['number']} is not whole: write {match['number']}s for seconds")
    else:
        frame = int(match["number"])
    return frame, match["text"]
