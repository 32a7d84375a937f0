"""A video file that is encoded as its frames come: a run of frames by itself, several at a time, joined in the end."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from .whole import whole

CODECS = {".mp4": "libx264", ".webm": "libvpx-vp9"}
# By libraries, of what they can't write; torch's own words for no memory are a RuntimeError.
REFUSALS = (OSError, ValueError, ArithmeticError, RuntimeError, MemoryError, av.FFmpegError)
THREADS = (
    4  # of an encoder: several are open at once, and each thread keeps frames; the file does not depend on the machine's cores
)
RUN = 32  # frames: it starts with a key frame, of which players want one in a few seconds anyway


class Movie:
    """A video in the making: a file a run of frames, in a folder that is there from the first frame on.

    A run is encoded by itself, so that no clip waits for the one before it, and counted from the video's first frame, so that the
    file does not show where the clips of ranks meet (law 1).
    """

    def __init__(self, path: Path, place: ExitStack, *, frames: int, height: int, width: int, fps: float):
        """Take the file's path, .mp4 or .webm, and what in the end makes `path` whole, or removes all. Opens nothing yet."""
        self.frames = frames
        self._path, self._place, self._size = path, place, (height, width)
        self._part: Path | None = None  # what becomes `path`
        self._rate = Fraction(fps).limit_denominator(1000)
        self._open: dict[int, tuple[av.container.OutputContainer, av.VideoStream]] = {}
        self._written = 0
        self._failure: Exception | None = None

    def write(self, number: int, frame_HWC: torch.Tensor) -> None:
        """Encode a frame, float in [0, 1]. Frames of one run come ascending, runs in any order and at the same time.

        What can't be written is said in the end (`join`): ranks that still decode are not the ones to stop for it.
        """
        if self._failure is None:
            try:
                self._encode(number, frame_HWC)
            except REFUSALS as error:
                self._failure = error
        self._written += 1

    def _encode(self, number: int, frame_HWC: torch.Tensor) -> None:
        run = number // RUN
        if number % RUN == 0:
            self._open[run] = self._begin(run)
        container, stream = self._open[run]
        container.mux(stream.encode(av.VideoFrame.from_ndarray(as_bytes(frame_HWC), format="rgb24")))
        if number == min(run * RUN + RUN, self.frames) - 1:
            container.mux(stream.encode())
            del self._open[run]
            container.close()

    def _begin(self, run: int) -> tuple[av.container.OutputContainer, av.VideoStream]:
        if self._part is None:
            self._part = self._place.enter_context(whole(self._path))
            self._file(0).parent.mkdir()
        container = av.open(str(self._file(run)), "w")
        stream = container.add_stream(CODECS[self._path.suffix.lower()], rate=self._rate)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = self._size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = THREADS
        stream.options = {"crf": "16"}
        return container, stream

    def _file(self, run: int) -> Path:
        assert self._part is not None, "no frame has come"
        return self._part.parent / "runs" / f"{run:06d}{self._part.suffix}"  # the part itself has a suffix, and another name

    def join(self) -> None:
        """Make one file of all runs; nothing is encoded again. Raises one of REFUSALS."""
        if self._failure is not None:
            raise self._failure
        assert self._written == self.frames, f"{self._written} of {self.frames} frames came"
        with av.open(str(self._part), "w") as container, av.open(str(self._file(0))) as first:
            stream = container.add_stream_from_template(first.streams.video[0])
            stream.codec_context.framerate = self._rate  # WebM says it in its header
            for run in range(-(-self.frames // RUN)):
                for packet in self._packets(run):
                    packet.stream = stream
                    container.mux(packet)

    def _packets(self, run: int) -> Iterator[av.Packet]:
        """Yield the packets of a run, at their times in the whole video."""
        with av.open(str(self._file(run))) as part:
            for packet in part.demux(video=0):
                if packet.dts is None or packet.pts is None:  # the end
                    continue
                shown, decoded = (round(time * packet.time_base * self._rate) for time in (packet.pts, packet.dts))
                packet.time_base = 1 / self._rate  # times are numbers of frames
                packet.pts, packet.dts, packet.duration = run * RUN + shown, run * RUN + decoded, 1
                yield packet

    def close(self) -> None:
        """Close what is open. Safe to call twice."""
        while self._open:
            self._open.popitem()[1][0].close()


@contextmanager
def writing(path: Path, *, frames: int, height: int, width: int, fps: float) -> Iterator[Movie]:
    """Give a movie that becomes the file `path` when the block ends with all of its frames written; otherwise nothing stays."""
    with ExitStack() as place, closing(Movie(path, place, frames=frames, height=height, width=width, fps=fps)) as movie:
        yield movie
        movie.join()


def as_bytes(frame_HWC: torch.Tensor) -> np.ndarray:
    """Return a float frame in [0, 1] as uint8."""
    return (frame_HWC * 255).round().to(torch.uint8).numpy()
