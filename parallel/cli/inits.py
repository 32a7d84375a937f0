"""Pictures and videos in: the frames of an init, as ComfyUI's Load Image and Load Video show them.

Upright, in RGB without alpha, every frame of an animation or video, one that is held as often as its hold lasts.
"""

import itertools
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import av
import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, ImageSequence, UnidentifiedImageError

from ..job.errors import JobRefused

log = logging.getLogger(__name__)
# Of files in a folder. What a file holds is told by its bytes: Pillow reads these formats, FFmpeg all others.
SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".avif")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF")
ANIMATED = ("PNG", "WEBP", "GIF")  # the other pictures of a JPEG or TIFF are its thumbnail, its depth or another page
MAX_PIXELS = 8192 * 8192  # of one frame: larger ones are refused before they are decoded
UNREADABLE = (av.FFmpegError, OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
OWN_NOTE = re.compile(r"(\d{1,9}) frames of (\d{1,9}) ms")  # in a .webp that `movies.write` wrote

Fit = Literal["crop", "stretch"]


@dataclass(frozen=True)
class Wanted:
    """How many frames are of use, and the size that they are brought to (None: their own)."""

    most: int
    height: int | None
    width: int | None
    fit: Fit


def read(
    path: Path,
    *,
    most: int,
    height: int | None = None,
    width: int | None = None,
    fit: Fit = "crop",
    notify: Callable[[str], None] = log.warning,
    what: str = "init",
) -> torch.Tensor:
    """Return up to `most` frames of an image, a video or a folder of images, scaled if a size is given: uint8 (F, H, W, 3).

    `fit`: of another aspect, the middle is used (`crop`, as ComfyUI's Upscale Image has it) or the whole is squeezed
    (`stretch`). `notify` gets what was left out. Raises JobRefused if there is no picture in it. `what` it is called there.
    """
    say = lambda text: notify(f"{what} {text}")  # noqa: E731
    try:
        return _read(path, Wanted(most, height, width, fit), say)
    except JobRefused as error:
        raise JobRefused(f"{what} {error}") from None


def _read(path: Path, wanted: Wanted, notify: Callable[[str], None]) -> torch.Tensor:
    if not os.path.exists(path):
        raise JobRefused(f"{path} does not exist: give an image, a video or a folder of images")
    one_more = replace(wanted, most=wanted.most + 1)
    frames = _read_folder(path, one_more, notify) if path.is_dir() else _read_file(path, one_more, notify)
    if not frames:
        raise JobRefused(f"{path} has no picture in it: give an image, a video or a folder of images")
    if len(frames) > wanted.most:
        notify(f"{path} has more than {wanted.most} frames: the first {wanted.most} are used")
    sizes = {frame.shape[1::-1] for frame in frames}
    if len(sizes) > 1:
        raise JobRefused(f"{path} has frames of several sizes, {sorted(sizes)}: bring them to one")
    return torch.from_numpy(np.stack(frames[: wanted.most]))


def _read_folder(folder: Path, wanted: Wanted, notify: Callable[[str], None]) -> list[np.ndarray]:
    """Return the frames of a folder's pictures, in the order that people count in; a broken one is left out, and named."""
    frames: list[np.ndarray] = []
    broken: list[JobRefused] = []
    try:
        files = sorted(filter(_is_picture, folder.iterdir()), key=natural)
    except OSError as error:
        raise JobRefused(f"{folder} can't be read ({error.strerror}): try another folder") from None
    for file in files:
        try:
            frames += _read_file(file, wanted, notify)
        except JobRefused as error:
            broken.append(error)
            notify(f"{error} (it is left out)")
        if len(frames) >= wanted.most:
            break
    if broken and not frames:
        raise broken[0]
    return frames[: wanted.most]


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()  # macOS's "._1.png" are none


def natural(file: Path) -> tuple[list[tuple[bool, int, str]], str]:
    """Return a key that sorts file names as people count: 2.png before 10.png."""
    parts = re.split(r"([0-9]+)", file.name.lower())
    numbered = [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts if part]
    return [(text, number, part if text else "") for text, number, part in numbered], file.name


def _read_file(file: Path, wanted: Wanted, notify: Callable[[str], None]) -> list[np.ndarray]:
    try:
        try:
            picture = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            return _read_video(file, wanted, notify)
        with picture:
            return _read_picture(file, picture, wanted)
    except JobRefused:
        raise
    except UNREADABLE as error:
        raise JobRefused(f"{file} can't be read as a picture or video ({error}): try another file") from None


def _read_picture(file: Path, picture: Image.Image, wanted: Wanted) -> list[np.ndarray]:
    _check_size(file, *picture.size)
    frames, holds = [], []
    for frame in _frames_of(picture, wanted.most):
        upright = ImageOps.exif_transpose(frame)
        frames.append(np.array(_fitted(_rgb(file, upright), wanted)))
        holds.append(_seconds(frame))
    note = OWN_NOTE.fullmatch(str(picture.getexif().get(ExifTags.Base.ImageDescription, "")))
    if note is not None and len(frames) == 1:
        return frames * min(int(note[1]), wanted.most)
    return _held(frames, holds, wanted.most, step=int(note[2]) / 1000 if note else None)


def _frames_of(picture: Image.Image, most: int) -> Iterator[Image.Image]:
    """Yield a picture's frames; a PNG's first one may be for viewers that know no animation, and is none of it."""
    if picture.format not in ANIMATED or not getattr(picture, "is_animated", False):
        return iter([picture])
    first = int(bool(picture.info.get("default_image")))
    return itertools.islice(ImageSequence.Iterator(picture), first, first + most)


def _seconds(frame: Image.Image) -> float:
    """Return how long an animation's frame is held, 0 if it does not say."""
    held = float(frame.info.get("duration") or 0)
    if frame.format == "GIF" and held <= 10:
        held = 100.0  # as browsers and FFmpeg show it
    return held / 1000


def _rgb(file: Path, image: Image.Image) -> Image.Image:
    """Return an image in RGB, 8 bits; transparency is dropped, as ComfyUI does."""
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise JobRefused(f"{file} has 32 bits a pixel, and its white is not known: save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # gray of 16 bits, which Pillow's own conversion would cut at 255 instead of scaling
        gray = np.asarray(image).astype(np.uint16)
        image = Image.fromarray(np.round(gray / 257).astype(np.uint8))
    return image.convert("RGB")


def _read_video(file: Path, wanted: Wanted, notify: Callable[[str], None]) -> list[np.ndarray]:
    with av.open(str(file.absolute())) as container:  # absolute: FFmpeg takes a name like "a:b.mp4" for an address
        if not container.streams.video:
            return []
        stream = container.streams.video[0]
        _check_size(file, stream.width, stream.height)
        frames: list[np.ndarray] = []
        times: list[float | None] = []
        last = 0.0
        decoded = _decode(file, container, stream, notify)
        for frame in itertools.islice(decoded, wanted.most):
            upright = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))
            frames.append(np.array(_fitted(Image.fromarray(np.ascontiguousarray(upright)), wanted)))
            times.append(frame.time)
            last = float((frame.duration or 0) * (frame.time_base or 0))
    return _held(frames, _holds(times, last), wanted.most)


def _decode(
    file: Path, container: av.container.InputContainer, stream: av.VideoStream, notify: Callable[[str], None]
) -> Iterator[av.VideoFrame]:
    """Yield a stream's frames in the order in which they are shown; what is damaged is left out, and said."""
    damaged, seen = 0, 0
    for packet in container.demux(stream):
        try:
            decoded = packet.decode()
        except av.error.InvalidDataError as error:
            damaged, why = damaged + 1, error
            continue
        for frame in decoded:
            seen += 1
            yield frame
    if damaged and not seen:
        raise why
    if damaged:
        notify(f"{file} is damaged in {damaged} places, whose frames are left out ({why})")


def _holds(times: list[float | None], last: float) -> list[float]:
    """Return for how many seconds each frame is shown, 0 where that is not known."""
    known = [0.0 if time is None else time for time in times]
    between = [later - earlier for earlier, later in itertools.pairwise(known)]
    return [*between, last] if None not in times else [0.0] * len(times)


def _held(frames: list[np.ndarray], seconds: list[float], most: int, *, step: float | None = None) -> list[np.ndarray]:
    """Return each frame once, and one that is held as often as its hold lasts a step: up to `most` in all.

    Without a `step` it is the shortest hold but for a tenth of them, which may be an accident of the clock. A steady video so
    comes as it is, at whatever rate; its own unevenness (40 and 50 ms for 24 frames a second) is no hold.
    """
    known = sorted(hold for hold in seconds if hold > 0)
    if not known:
        return frames
    step = step or known[len(known) // 10]
    counts = (max(1, min(most, round(hold / step))) for hold in seconds)
    return list(itertools.islice(_repeated(frames, counts), most))


def _repeated(frames: Iterable[np.ndarray], counts: Iterable[int]) -> Iterator[np.ndarray]:
    for frame, count in zip(frames, counts, strict=True):
        yield from itertools.repeat(frame, count)


def _fitted(image: Image.Image, wanted: Wanted) -> Image.Image:
    """Return an image in the wanted size, or as it is if there is none."""
    height, width = wanted.height or image.height, wanted.width or image.width
    box = _middle(image, height, width) if wanted.fit == "crop" else (0, 0, *image.size)
    grows = height > box[3] - box[1] or width > box[2] - box[0]
    method = Image.Resampling.BILINEAR if grows else Image.Resampling.BOX  # the mean of each area, as ComfyUI's "area"
    return image.resize((width, height), method, box=box)


def _middle(image: Image.Image, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the largest box of an aspect in the middle of an image: left, top, right, bottom."""
    used_width = min(image.width, image.height * width / height)
    used_height = min(image.height, image.width * height / width)
    left, top = round((image.width - used_width) / 2), round((image.height - used_height) / 2)
    return left, top, image.width - left, image.height - top


def _check_size(file: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise JobRefused(f"{file} is {width}x{height}: use frames of at most 8192x8192")
