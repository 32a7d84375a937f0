from pathlib import Path

import pytest
import torch
from PIL import Image

from parallel.cli import inits, movies
from parallel.job.errors import JobRefused
from parallel.pool.movie import as_bytes


def ramp(frames=5) -> torch.Tensor:
    """Frames of one gray each, from dark to bright."""
    return torch.linspace(0.1, 0.9, frames).view(-1, 1, 1, 1).expand(-1, 32, 48, 3).contiguous()


@pytest.mark.parametrize("name", ["v.mp4", "v.webm", "v.webp", "folder", "V.MP4"])
def test_a_written_video_reads_back(tmp_path, name):
    movies.check_output(tmp_path / name)
    movies.write(ramp(), tmp_path / name, 8)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    back = inits.read(tmp_path / name, height=32, width=48, most=100)
    assert back.shape == (5, 32, 48, 3)
    assert (back.float() / 255 - ramp()).abs().max() < 0.04


def test_an_odd_size_has_no_mp4_and_leaves_no_part(tmp_path):
    with pytest.raises(JobRefused, match="even"):
        movies.write(torch.rand(2, 33, 48, 3), tmp_path / "v.mp4", 8)
    assert list(tmp_path.iterdir()) == []


def test_an_init_is_scaled_and_cut_to_what_is_wanted(tmp_path):
    movies.write(ramp(), tmp_path / "v.mp4", 8)
    assert inits.read(tmp_path / "v.mp4", height=16, width=16, most=3).shape == (3, 16, 16, 3)
    Image.new("RGB", (10, 10), (255, 0, 0)).save(tmp_path / "i.png")
    still = inits.read(tmp_path / "i.png", height=8, width=8, most=100)
    assert still.shape == (1, 8, 8, 3) and still[0, 4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: None, "does not exist: give an image, a video or a folder of images"),
        (lambda p: p.write_bytes(b"garbage"), "can't be read as a picture or video"),
        (lambda p: p.mkdir(), "has no picture in it: give an image, a video or a folder of images"),
    ],
)
def test_an_init_that_is_none_is_refused(tmp_path, make, message):
    make(tmp_path / "x")
    with pytest.raises(JobRefused, match=message):
        inits.read(tmp_path / "x", height=8, width=8, most=9)


def test_a_folder_of_frames_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    movies.write(ramp(), tmp_path / "empty", 8)
    assert sorted(file.name for file in (tmp_path / "empty").iterdir()) == [f"{n:06d}.png" for n in range(5)]
    with pytest.raises(JobRefused, match=r"is not empty, and old frames would mix with new ones: use a new one$"):
        movies.check_output(tmp_path / "empty")
    broken = torch.cat([ramp(2), torch.full((1, 32, 48, 3), float("nan"))])
    monkeypatch.setattr(movies, "as_bytes", lambda frame: 1 / 0 if frame.isnan().any() else as_bytes(frame))
    with pytest.raises(ZeroDivisionError):
        movies.write(broken, tmp_path / "new", 8)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_an_output_of_the_wrong_kind_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(JobRefused, match=r"is a file: give the name of a folder, or of an \.mp4, \.webm or \.webp file$"):
        movies.check_output(tmp_path / "file")
    with pytest.raises(JobRefused, match=r"is a folder: give the name of a file in it$"):
        movies.check_output(tmp_path / "folder.mp4")


def test_an_output_that_can_not_be_written_is_refused(tmp_path):
    with pytest.raises(JobRefused) as refused:
        movies.check_output(tmp_path / "no" / "v.mp4")
    assert str(refused.value) == f"output folder {tmp_path / 'no'} does not exist: make it first"
    with pytest.raises(JobRefused, match=r"^output folder /proc can't be written \(.*\): choose another one$"):
        movies.check_output(Path("/proc/v.mp4"))  # for root too
    with pytest.raises(JobRefused) as refused:
        movies.check_output(tmp_path / "v.avi")
    wanted = "wanted .mp4, .webm, .webp, or a folder name without a suffix, got .avi"
    assert str(refused.value) == f"output {tmp_path / 'v.avi'}: {wanted}"


def test_what_a_codec_can_not_make_is_refused_before_the_run(tmp_path, monkeypatch):
    """The rehearsal writes a frame as the video will be: here without the codec, as some builds of FFmpeg are."""
    monkeypatch.setitem(movies.CODECS, ".mp4", "no-such-codec")
    with pytest.raises(
        JobRefused, match=r"v\.mp4 can't be written as 16x8 at 8 frames a second \(.*\): use another name, kind or"
    ):
        movies.check_output(tmp_path / "v.mp4", height=8, width=16)
    movies.check_output(tmp_path / "v.webm", height=8, width=16)
    with pytest.raises(JobRefused, match=r"\.webm wants at least 0\.01 frames a second, got 0\.0001: use a folder of PNG$"):
        movies.check_output(tmp_path / "v.webm", fps=0.0001)  # FFmpeg would make it 24
    with pytest.raises(JobRefused, match=r"a \.webp lasts at most 24 days: use \.mp4$"):
        movies.check_output(tmp_path / "v.webp", fps=0.01, frames=100_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 251 + ".mp4", "x" * 247 + ".mp4", "x" * 251, "x" * 255, "x" * 256])
def test_a_name_is_written_or_refused_before_the_run(tmp_path, name):
    if len(name) > 255:
        with pytest.raises(JobRefused, match="File name too long"):
            movies.check_output(tmp_path / name)
        return
    movies.check_output(tmp_path / name)
    assert list(tmp_path.iterdir()) == [], "nothing of the rehearsal stays"
    movies.write(ramp(2), tmp_path / name, 8)
    assert [file.name for file in tmp_path.iterdir()] == [name]
