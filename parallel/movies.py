"""Video files in and out, with PyAV and Pillow. A file appears whole or not at all."""

import itertools
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageSequence

from .errors import JobRefused
from .whole import whole

CODECS = {".mp4": "libx264", ".webm": "libvpx-vp9"}
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif")  # Pillow's; FFmpeg can't read an animated .webp
MAX_PIXELS = 8192 * 8192  # of one init frame: larger ones are refused before they are decoded


def check_output(path: Path, *, height: int = 2, width: int = 2) -> None:
    """Raise JobRefused if a video can't be written there: an .mp4, .webm or .webp file, or (no suffix) a folder of PNG."""
    if path.suffix in CODECS and (height % 2 or width % 2):
        raise JobRefused(f"output {path}: {path.suffix} wants an even height and width, got {width}x{height}: use .webp")
    if path.suffix not in (*CODECS, ".webp", ""):
        raise JobRefused(f"output {path}: wanted .mp4, .webm, .webp, or a folder name without a suffix, got {path.suffix}")
    if path.suffix == "" and path.exists():
        if not path.is_dir():
            raise JobRefused(f"output {path} is a file: give the name of a folder, or of an .mp4, .webm or .webp file")
        if any(path.iterdir()):
            raise JobRefused(f"output folder {path} is not empty, and old frames would mix with new ones: use a new one")
        check_writable(path / "frame.png")
    check_writable(path)


def check_writable(file: Path) -> None:
    """Raise JobRefused if a file can't be written: its folder is missing or closed, or there is a folder of its name."""
    folder = file.parent
    if file.suffix and file.is_dir():
        raise JobRefused(f"output {file} is a folder: give the name of a file in it")
    if not folder.is_dir():
        raise JobRefused(f"output folder {folder} does not exist: make it first")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise JobRefused(f"output folder {folder} can't be written ({error.strerror}): choose another one") from None


def write(frames_THWC: torch.Tensor, path: Path, fps: float) -> None:
    """Write float frames in [0, 1] to a file or, without a suffix, to a folder of numbered PNG files.

    Raises JobRefused if `check_output` does, OSError or av.FFmpegError if the disk fails.
    """
    check_output(path, height=frames_THWC.shape[1], width=frames_THWC.shape[2])
    with whole(path) as part:
        if path.suffix == "":
            part.mkdir()
            for number, frame in enumerate(frames_THWC):
                Image.fromarray(_bytes(frame)).save(part / f"{number:06d}.png")
        elif path.suffix == ".webp":
            first, *rest = (Image.fromarray(_bytes(frame)) for frame in frames_THWC)
            first.save(part, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, quality=90)
        else:
            _write_stream(frames_THWC, part, fps)


def _write_stream(frames_THWC: torch.Tensor, path: Path, fps: float) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream(CODECS[path.suffix], rate=Fraction(fps).limit_denominator(1000))
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames_THWC.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "16"}
        for frame in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(_bytes(frame), format="rgb24")))
        container.mux(stream.encode())


def _bytes(frame_HWC: torch.Tensor) -> np.ndarray:
    return (frame_HWC * 255).round().to(torch.uint8).numpy()


def read(path: Path, *, most: int, height: int | None = None, width: int | None = None) -> torch.Tensor:
    """Return up to `most` frames of an image, a video or a folder of images, scaled if a size is given: uint8 (F, H, W, 3).

    Raises JobRefused if there is no picture in it.
    """
    if not path.exists():
        raise JobRefused(f"init {path} does not exist: give an image, a video or a folder of images")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES) if path.is_dir() else [path]
    frames: list[np.ndarray] = []
    for file in files[:most]:
        reader = _read_image if file.suffix.lower() in IMAGES else _read_video
        try:
            frames += reader(file, height, width, most - len(frames))
        except (av.FFmpegError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise JobRefused(f"init {file} can't be read as a picture or video ({error}): try another file") from None
    if not frames:
        raise JobRefused(f"init {path} has no picture in it: give an image, a video or a folder of images")
    return torch.from_numpy(np.stack(frames))


def _read_image(file: Path, height: int | None, width: int | None, most: int) -> list[np.ndarray]:
    with Image.open(file) as image:
        _check_size(file, *image.size)
        size = (width or image.width, height or image.height)
        frames = itertools.islice(ImageSequence.Iterator(image), most)
        return [np.array(frame.convert("RGB").resize(size, Image.Resampling.BOX)) for frame in frames]


def _read_video(file: Path, height: int | None, width: int | None, most: int) -> list[np.ndarray]:
    with av.open(file) as container:
        if not container.streams.video:
            return []
        stream = container.streams.video[0]
        _check_size(file, stream.width, stream.height)
        frames = itertools.islice(container.decode(stream), most)
        return [frame.reformat(width, height, format="rgb24", interpolation="AREA").to_ndarray() for frame in frames]


def _check_size(file: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise JobRefused(f"init {file} is {width}x{height}: use frames of at most 8192x8192")
