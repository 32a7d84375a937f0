"""Inits are read as ComfyUI's Load Image and Load Video show them: upright, in RGB, in order, held as long as they are held."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from parallel.cli import inits, movies
from parallel.job.errors import JobRefused

H, W = 16, 32


def gradient() -> np.ndarray:
    """A picture of which every turn, flip and scale of brightness can be told: (H, W, 3)."""
    y, x = np.mgrid[0:H, 0:W]
    return np.stack([8 * x, 16 * y, 4 * (x + y)], axis=-1).astype(np.uint8)


def write_stream(path: Path, times=range(6), *, fps: int = 8, pix_fmt: str = "yuv420p") -> None:
    """Write a video whose frames grow brighter, shown from given times on, in frames."""
    codec = "libvpx-vp9" if path.suffix == ".webm" else "libx264"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.options = W, H, pix_fmt, {"crf": "10"}
        stream.codec_context.time_base = Fraction(1, fps)
        for number, time in enumerate(times):
            picture = np.clip(gradient().astype(int) // 2 + 20 * number, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = time, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def brightness(path: Path, **wanted) -> list[int]:
    """Return each frame's mean, in steps of 20."""
    frames = inits.read(path, most=99, **wanted).float()
    return ((frames.mean(dim=(1, 2, 3)) - frames[0].mean()) / 20).round().int().tolist()


TURNS = {  # what each EXIF orientation makes of what is stored
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", TURNS)
def test_a_photo_is_upright(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(gradient()).save(tmp_path / f"photo{suffix}", exif=exif, lossless=True)
    (got,) = inits.read(tmp_path / f"photo{suffix}", most=9)
    assert np.array_equal(got.numpy(), TURNS[orientation](gradient()))


def test_a_phones_video_is_upright(tmp_path):
    write_stream(tmp_path / "v.mp4")
    data = bytearray((tmp_path / "v.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, H << 16, 0, 0x40000000)
    (tmp_path / "turned.mp4").write_bytes(data)
    plain, turned = (inits.read(tmp_path / name, most=99).numpy() for name in ("v.mp4", "turned.mp4"))
    assert turned.shape == (6, W, H, 3) and np.array_equal(turned, np.rot90(plain, -1, axes=(1, 2)))


def pictures_of_every_kind(folder: Path) -> dict[str, np.ndarray]:
    """Write one gradient in every depth and colour model; return what each file shows, as ComfyUI's Load Image does."""
    rgb = Image.fromarray(gradient())
    gray = np.asarray(rgb.convert("L"))
    of_gray = np.repeat(gray[..., None], 3, axis=-1)
    deep = gray.astype(np.uint16) * 257
    see_through = rgb.convert("RGBA")
    see_through.putalpha(0)
    palette = rgb.quantize(200)
    files = {
        "gray16.png": (Image.fromarray(deep), of_gray),
        "gray16.tif": (Image.fromarray(deep), of_gray),
        "l.png": (rgb.convert("L"), of_gray),
        "la.png": (rgb.convert("LA"), of_gray),
        "rgba.png": (see_through, gradient()),
        "p.png": (palette, np.asarray(palette.convert("RGB"))),
        "cmyk.tif": (rgb.convert("CMYK"), gradient()),
        "one.png": (rgb.convert("1"), np.asarray(rgb.convert("1").convert("RGB"))),
        "rgb.bmp": (rgb, gradient()),
        "really_a_png.jpg": (rgb, gradient()),
    }
    for name, (picture, _) in files.items():
        picture.save(folder / name, format="PNG" if name.startswith("really") else None)
    palette.save(folder / "hole.png", transparency=3)
    return {name: shown for name, (_, shown) in files.items()} | {"hole.png": files["p.png"][1]}


def test_every_depth_and_colour_model_is_what_it_shows(tmp_path):
    for name, shown in pictures_of_every_kind(tmp_path).items():
        (got,) = inits.read(tmp_path / name, most=9)
        assert np.abs(got.numpy().astype(int) - shown).max() <= 1, name
    Image.fromarray(gradient()[..., 0].astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(JobRefused, match=r"has 32 bits a pixel, and its white is not known: save it with 8 or 16 bits$"):
        inits.read(tmp_path / "float.tif", most=9)


def test_ten_bits_are_not_washed_out(tmp_path):
    write_stream(tmp_path / "8.mp4")
    write_stream(tmp_path / "10.mp4", pix_fmt="yuv420p10le")
    eight, ten = (inits.read(tmp_path / name, most=99).float() for name in ("8.mp4", "10.mp4"))
    assert (eight - ten).abs().mean() < 3


def test_a_folder_is_read_in_the_order_that_people_count_in(tmp_path):
    for number in range(1, 13):
        Image.new("L", (8, 8), 20 * number).save(tmp_path / f"{number}.png")
    assert brightness(tmp_path) == list(range(12))
    names = ["a1.png", "A2.png", "a10.png", "a10b.png", "b2x3.png", "b2x20.png", "b03.png", "b.png"]
    assert sorted(map(Path, reversed(names)), key=inits.natural) == [Path(name) for name in names]


def test_what_is_no_picture_in_a_folder_is_nothing_and_a_broken_one_is_named(tmp_path):
    for number in (1, 3):
        Image.new("L", (8, 8), 20 * number).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"\x89PNG half of it")
    for other in (".DS_Store", "Thumbs.db", "notes.txt", "._1.png"):
        (tmp_path / other).write_bytes(b"\0\1\2")
    (tmp_path / "4.png").mkdir()
    said = []
    assert brightness(tmp_path, notify=said.append) == [0, 2]
    assert len(said) == 1 and said[0].startswith(f"init {tmp_path / '2.png'} can't be read") and "left out" in said[0]
    for number in (1, 3):
        (tmp_path / f"{number}.png").unlink()
    with pytest.raises(JobRefused, match=r"2\.png can't be read as a picture or video"):
        inits.read(tmp_path, most=9, notify=said.append)


@pytest.mark.parametrize("name", ["v.gif", "v.webp", "v.png"])
def test_a_held_frame_of_an_animation_counts_as_long_as_it_is_held(tmp_path, name):
    first, *rest = (Image.new("RGB", (8, 8), (20 * n, 20 * n, 20 * n)) for n in range(4))
    first.save(tmp_path / name, save_all=True, append_images=rest, duration=[100, 300, 100, 100], lossless=True)
    assert brightness(tmp_path / name) == [0, 1, 1, 1, 2, 3]
    assert len(inits.read(tmp_path / name, most=3, notify=lambda said: None)) == 3


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_a_held_frame_of_a_video_counts_as_long_as_it_is_held(tmp_path, name):
    write_stream(tmp_path / name, times=[0, 1, 2, 6, 7, 8])
    assert brightness(tmp_path / name) == [0, 1, 2, 2, 2, 2, 3, 4, 5]


@pytest.mark.parametrize("fps, name", [(24, "v.webm"), (30, "v.mp4"), (7, "v.mkv")])
def test_a_steady_video_comes_as_it_is_whatever_its_clock(tmp_path, fps, name):
    write_stream(tmp_path / name, times=range(12), fps=fps)
    assert len(inits.read(tmp_path / name, most=99)) == 12


def test_only_the_animation_of_a_png_counts_and_only_the_photo_of_a_jpeg(tmp_path):
    first, *rest = (Image.new("L", (8, 8), 20 * n) for n in (9, 0, 1))
    first.save(tmp_path / "a.png", save_all=True, append_images=rest, duration=100, default_image=True)
    assert brightness(tmp_path / "a.png") == [0, 1]
    first.convert("RGB").save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[rest[0].convert("RGB")])
    assert inits.read(tmp_path / "phone.jpg", most=9).shape == (1, 8, 8, 3)


@pytest.mark.parametrize("name", ["v.mp4", "v.webm", "v.webp", "folder"])
@pytest.mark.parametrize("alike", ["all", "pairs", "none"])
def test_as_many_frames_come_back_as_were_written(tmp_path, name, alike):
    """The encoder of .webp makes one frame of neighbours that are alike."""
    step = {"all": 8, "pairs": 2, "none": 1}[alike]
    frames = torch.stack([torch.full((16, 16, 3), (n // step) / 10) for n in range(8)])
    movies.write(frames, tmp_path / name, 24)
    back = inits.read(tmp_path / name, most=99)
    assert back.shape == frames.shape and (back.float() / 255 - frames).abs().max() < 0.04


def test_an_init_of_another_aspect_gives_its_middle_or_is_squeezed(tmp_path):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide.swapaxes(0, 1)).save(tmp_path / "tall.png")
    movies.write(torch.from_numpy(wide)[None].float() / 255, tmp_path / "wide.mp4", 8)
    for name in ("wide.png", "tall.png", "wide.mp4"):
        (middle,) = inits.read(tmp_path / name, most=1, height=8, width=8)
        assert middle.float().mean() > 180, name
        (small,) = inits.read(tmp_path / name, most=1, height=4, width=4)
        assert small.float().mean() > 180, name
        (all_of_it,) = inits.read(tmp_path / name, most=1, height=8, width=8, fit="stretch")
        assert 50 < all_of_it.float().mean() < 85, name


def test_more_frames_than_wanted_are_left_out_and_said(tmp_path):
    movies.write(torch.rand(5, 16, 16, 3), tmp_path / "v.mp4", 8)
    said = []
    assert len(inits.read(tmp_path / "v.mp4", most=5, notify=said.append)) == 5 and said == []
    assert len(inits.read(tmp_path / "v.mp4", most=3, notify=said.append)) == 3
    assert said == [f"init {tmp_path / 'v.mp4'} has more than 3 frames: the first 3 are used"]


def test_a_name_that_ffmpeg_takes_for_an_address_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    movies.write(torch.rand(2, 16, 16, 3), Path("take:2.mp4"), 8)
    assert len(inits.read(Path("take:2.mp4"), most=9)) == 2


def test_a_damaged_video_gives_what_is_whole_and_says_so(tmp_path):
    write_stream(tmp_path / "v.mkv", times=range(60))
    data = (tmp_path / "v.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 2 // 3])
    assert 10 < len(inits.read(tmp_path / "cut.mkv", most=99, notify=lambda said: None)) < 60
