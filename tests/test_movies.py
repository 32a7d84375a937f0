from pathlib import Path

import pytest
import torch
from PIL import Image

from parallel import movies
from parallel.errors import JobRefused


def ramp(frames=5) -> torch.Tensor:
    """Frames of one gray each, from dark to bright."""
    return torch.linspace(0.1, 0.9, frames).view(-1, 1, 1, 1).expand(-1, 32, 48, 3).contiguous()


@pytest.mark.parametrize("name", ["v.mp4", "v.webm", "v.webp", "folder"])
def test_a_written_video_reads_back(tmp_path, name):
    movies.check_output(tmp_path / name)
    movies.write(ramp(), tmp_path / name, 8)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    back = movies.read(tmp_path / name, height=32, width=48, most=100)
    assert back.shape == (5, 32, 48, 3)
    assert (back.float() / 255 - ramp()).abs().max() < 0.04


def test_an_odd_size_has_no_mp4_and_leaves_no_part(tmp_path):
    with pytest.raises(JobRefused, match="even"):
        movies.write(torch.rand(2, 33, 48, 3), tmp_path / "v.mp4", 8)
    assert list(tmp_path.iterdir()) == []


def test_an_init_is_scaled_and_cut_to_what_is_wanted(tmp_path):
    movies.write(ramp(), tmp_path / "v.mp4", 8)
    assert movies.read(tmp_path / "v.mp4", height=16, width=16, most=3).shape == (3, 16, 16, 3)
    Image.new("RGB", (10, 10), (255, 0, 0)).save(tmp_path / "i.png")
    still = movies.read(tmp_path / "i.png", height=8, width=8, most=100)
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
        movies.read(tmp_path / "x", height=8, width=8, most=9)


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
