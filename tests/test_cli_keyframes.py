"""`--image` and `--video`: frames that are given, as a person types them."""

import numpy as np
import pytest
import torch
from PIL import Image

from parallel.cli import inits, keyframes
from parallel.job.job import Job, Keyframe, Prompt, checked
from tests.command_line import generate, refusal


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A picture of another size, with alpha; and a folder of three."""
    folder = tmp_path_factory.mktemp("given")
    Image.new("RGBA", (40, 24), (250, 40, 40, 128)).save(folder / "red.png")
    (folder / "run").mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16), (0, 80 * number, 255)).save(folder / "run" / f"{number}.png")
    return folder


def job() -> Job:
    return checked(Job, model="m", prompts=(Prompt(frame=0, text="a"),), frames=24, height=16, width=16, fps=8)


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("{}/red.png", Keyframe(frame=0)),
        ("{}/red.png@5", Keyframe(frame=5)),
        ("{}/red.png@1.5s", Keyframe(frame=12)),
        ("{}/red.png@last", Keyframe(frame=23)),
        ("{}/red.png@5:0.25", Keyframe(frame=5, strength=0.25)),
    ],
)
def test_an_image_stands_where_it_is_said_to(files, text, wanted):
    (given,), pixels = keyframes.read([keyframes.parse("image", text.format(files))], job(), fit="crop", notify=pytest.fail)
    assert given == wanted
    assert pixels.shape == (1, 16, 16, 3) and pixels[0, 0, 0].tolist() == [250, 40, 40]


@pytest.mark.parametrize("when, frame, count", [("@0", 0, 3), ("@last", 21, 3), ("@22", 22, 2)])
def test_a_run_begins_where_it_is_said_to_or_ends_with_the_video(files, when, frame, count):
    said = []
    (given,), pixels = keyframes.read([keyframes.parse("video", f"{files}/run{when}")], job(), fit="crop", notify=said.append)
    assert given == Keyframe(frame=frame, count=count, keep=True)
    assert pixels[:, 0, 0, 1].tolist() == [0, 80, 160][:count]
    assert said == ([] if count == 3 else [f"video {files}/run has more than 2 frames: the first 2 are used"])


def test_pixels_lie_in_the_order_of_their_frames(files):
    wishes = [keyframes.parse("image", f"{files}/red.png@last"), keyframes.parse("video", f"{files}/run@4")]
    given, pixels = keyframes.read(wishes, job(), fit="crop", notify=pytest.fail)
    assert [(each.frame, each.count) for each in given] == [(4, 3), (23, 1)]
    assert pixels[:, 0, 0, 0].tolist() == [0, 0, 0, 250]


def test_a_name_with_an_at_sign_is_a_file():
    assert keyframes.parse("image", "me@home.png").file.name == "me@home.png"
    assert keyframes.parse("image", "me@home.png@3") == keyframes.Wish("image", keyframes.Path("me@home.png"), "3")


def test_a_given_run_comes_out_as_it_went_in_and_the_rest_is_made(files, tiny, tmp_path, pools):
    made = {}
    for name, more in (("given", ["--video", f"{files}/run@0", "--image", f"{files}/red.png@last"]), ("free", [])):
        assert generate(pools, tiny, *more, "--output", tmp_path / name) == 0
        made[name] = inits.read(tmp_path / name, most=9)
    assert torch.equal(made["given"][:3], inits.read(files / "run", most=3))
    assert (made["given"][3:].float() - made["free"][3:].float()).abs().mean() > 1
    assert made["given"].shape == made["free"].shape == (7, 16, 16, 3)


@pytest.mark.parametrize(
    "more, said",
    [
        (["--image", "{}/red.png@7"], "image {}/red.png: frame 7 is past the end of a video of 7 frames: use frames 0 to 6"),
        (["--image", "{}/none.png@1"], "image {}/none.png does not exist: give an image, a video or a folder of images"),
        (["--image", "{}/red.png@1", "--image", "{}/red.png@1"], "keyframes: frame 1 comes after frame 1"),
        (["--video", "{}/run@0", "--image", "{}/red.png@2"], "keyframes: frame 2 comes after frame 2"),
        (["--image", "{}/red.png@1:2"], "strength"),
        (["--image", "{}/red.png", "--output", "{}/red.png"], "image {}/red.png would be written over"),
    ],
)
def test_what_can_not_be_is_refused_in_words(files, tiny, capsys, more, said):
    text = refusal(capsys, tiny, "--prompt", "a", *(each.format(files) for each in more))
    assert said.format(files) in text and text.count("\n") == 1


def test_a_picture_of_16_bits_is_a_picture(tmp_path):
    Image.fromarray(np.full((16, 16), 257 * 100, np.uint16)).save(tmp_path / "deep.png")
    _, pixels = keyframes.read([keyframes.parse("image", str(tmp_path / "deep.png"))], job(), fit="crop", notify=pytest.fail)
    assert set(pixels.flatten().tolist()) == {100}
