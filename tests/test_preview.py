"""What a user sees of a run: the preview's picture and colours, the text on the node, the lines on the console."""

import importlib.util
import io
import json
import sys

import pytest
import torch
from PIL import Image

from harness.comfyui import Server
from harness.places import BUNDLED, ROOT
from parallel.wire.messages import Step
from tests.test_comfyui import quick, short

RED, GRAY = (225, 45, 45), (120, 120, 120)


@pytest.fixture(scope="module")
def pack():
    """The pack under a name of its own, as ComfyUI imports it; the files that need no ComfyUI can be had from it."""
    spec = importlib.util.spec_from_file_location("pack_of_previews", ROOT / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    yield lambda name: importlib.import_module(f"pack_of_previews.nodes.{name}")
    for name in [name for name in sys.modules if name.startswith("pack_of_previews")]:
        del sys.modules[name]


def nearest(pixel: tuple[int, int, int], colours: dict[str, tuple[int, int, int]]) -> str:
    return min(colours, key=lambda name: sum(abs(a - b) for a, b in zip(pixel, colours[name], strict=True)))


@pytest.mark.parametrize("height, width", [(40, 64), (64, 40), (8, 8), (1, 1), (1, 300)])
@pytest.mark.parametrize("frames, side", [(1, 1), (3, 1), (4, 2), (8, 2), (9, 3), (96, 3)])
def test_a_preview_is_a_grid_in_the_shape_of_a_frame(pack, height, width, frames, side):
    picture = pack("preview").grid(torch.randn(4, frames, height, width), None, 512)
    assert max(picture.size) <= 512 and min(picture.size) >= 1
    assert max(picture.size) > 500, "it is not tiny either"
    if min(height, width) > 1:
        assert picture.width / picture.height == pytest.approx(width / height, rel=0.03)
    assert picture.mode == "RGB"


def test_the_frames_of_a_grid_are_spread_over_the_video_row_by_row(pack):
    preview = pack("preview")
    gray = preview.Colours(latent_rgb_factors=((1.0, 1.0, 1.0),))
    picture = preview.grid(torch.linspace(-1, 1, 90).view(1, 90, 1, 1).expand(1, 90, 8, 8), gray, 512)
    third = picture.width // 3
    shades = [picture.getpixel((third * column + 80, third * row + 80))[0] for row in range(3) for column in range(3)]
    assert shades == sorted(shades) and shades[0] == 0 and shades[-1] == 255


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 16])
def test_latents_of_an_unknown_vae_are_stretched_to_colours(pack, channels):
    painted = pack("preview").paint(torch.randn(channels, 4, 8, 8) * 30, None)
    assert painted.shape == (4, 8, 8, 3) and painted.dtype == torch.uint8
    assert painted.min() == 0 and painted.max() >= 254


def test_broken_latents_are_shown_and_end_no_run(pack):
    latents = torch.full((4, 9, 8, 8), float("nan"))
    assert pack("preview").grid(latents, None, 512).size == (511, 511)


@pytest.mark.parametrize("text", ["{", "[]", '{"latent_rgb_factors": [[1, 2]]}', '{"latent_rgb_factors": [[1, 2, 1e999]]}'])
def test_colours_that_can_not_be_read_are_left_out(pack, tmp_path, text):
    (tmp_path / "latent_rgb_factors.json").write_text(text)
    assert pack("preview").stored_colours(tmp_path, 1) is None


def test_colours_for_other_latents_are_left_out(pack, tmp_path):
    (tmp_path / "latent_rgb_factors.json").write_text(json.dumps({"latent_rgb_factors": [[1, 1, 1]]}))
    assert pack("preview").stored_colours(tmp_path, 1) is not None
    assert pack("preview").stored_colours(tmp_path, 4) is None
    assert pack("preview").stored_colours(tmp_path / "absent", 4) is None


def test_the_bundled_models_colours_are_true(pack):
    from diffusers import AutoencoderKL

    from scripts.shapes import BACKGROUNDS, draw_scene, render

    preview, vae = pack("preview"), AutoencoderKL.from_pretrained(BUNDLED / "vae").eval()
    colours = preview.stored_colours(BUNDLED / "vae", 4)
    off, right = [], []
    for name in BACKGROUNDS:
        scene = draw_scene(("circle", "red", name, "orbiting clockwise"), torch.Generator().manual_seed(5))
        image = render(scene, torch.arange(4.0)) * 2 - 1
        with torch.inference_mode():
            latents_CFHW = vae.encode(image).latent_dist.mode().movedim(0, 1)
        shown = preview.paint(latents_CFHW, colours).float()
        truth = (torch.nn.functional.adaptive_avg_pool2d(image, 8).movedim(1, -1) + 1) * 127.5
        off.append((shown - truth).abs().mean())
        right.append(nearest(tuple(shown[0].flatten(0, 1).median(0).values.tolist()), BACKGROUNDS) == name)
    assert torch.stack(off).mean() < 30, off
    assert all(right)


def step(rank: int, phase: str, at: int, of: int, number: int = 1) -> Step:
    return Step(number=number, rank=rank, phase=phase, step=at, steps=of)


def test_a_job_is_told_from_its_start_to_its_end(pack):
    status = pack("status").Status("moving-shapes")
    said = []
    for now, *what in [
        (0, 0, "load", 0, 1),
        (1, 1, "load", 0, 1),
        (2, 0, "encode", 0, 1),
        (3, 1, "encode", 0, 1),
        (3, 0, "encode", 5, 24),
        (4, 1, "encode", 5, 24),
        (5, 0, "denoise", 0, 20),
        (6, 1, "denoise", 0, 20),
        (8, 0, "denoise", 1, 20),
        (8, 1, "denoise", 1, 20),
        (9, 0, "denoise", 2, 20),
        (10, 1, "denoise", 2, 20),
        (46, 0, "denoise", 20, 20),
        (46, 1, "denoise", 20, 20),
        (47, 0, "decode", 0, 48),
        (47, 1, "decode", 0, 48),
        (48, 1, "decode", 8, 48),
    ]:
        status.record(step(*what), now)
        if not said or said[-1] != status.line(now):
            said.append(status.line(now))
    assert said == [
        "loading moving-shapes",
        "encoding",
        "encoding, 5 of 25 frames",
        "encoding, 10 of 48 frames",
        "step 0 of 20",
        "step 1 of 20, 38 s left",
        "step 1 of 20, 37 s left",
        "step 2 of 20, 36 s left",
        "step 2 of 20, 1 s left",
        "step 20 of 20",
        "decoding, 0 of 96 frames",
        "decoding, 8 of 96 frames",
    ]


def test_a_rank_that_is_heard_late_turns_nothing_back(pack):
    status = pack("status").Status("m")
    for what in ((0, "load", 0, 1), (0, "encode", 0, 1), (1, "load", 0, 1)):
        status.record(step(*what), 0)
    assert status.line(0) == "encoding"
    for what in ((1, "encode", 0, 1), (0, "denoise", 0, 20)):
        status.record(step(*what), 0)
    assert status.line(0) == "encoding"


@pytest.mark.parametrize("lost", ["load", "denoise"])
def test_a_run_that_goes_on_after_a_loss_forgets_the_rank_that_was_lost(pack, lost):
    status = pack("status").Status("m")
    for rank in (0, 1):
        status.record(step(rank, lost, 0, 20), 0)
    status.record(step(0, "load", 0, 1, number=2), 1)
    assert status.line(1) == "loading m"
    status.record(step(0, "denoise", 3, 20, number=2), 5)
    status.record(step(0, "denoise", 4, 20, number=2), 7)
    assert status.line(7) == "step 4 of 20, 32 s left"


@pytest.mark.parametrize(
    "seconds, words", [(0.2, "1 s"), (12.4, "12 s"), (99, "99 s"), (100, "2 min"), (3599, "1 h 0 min"), (4800, "1 h 20 min")]
)
def test_time_is_told_as_people_say_it(pack, seconds, words):
    assert pack("status").duration(seconds) == words


def test_previews_follow_comfyuis_setting(server: Server):
    assert server.run(quick(seed=52), preview_method="none").previews == 0
    assert server.run(quick(seed=53), preview_method="default").previews == 0, "ComfyUI's default is none"
    seen = server.run(short("prompt_timeline", seed=54))
    assert seen.previews == 4, "one a step, when all ranks have done it"
    with Image.open(io.BytesIO(seen.picture)) as picture:
        assert picture.size == (512, 512)
        grays = picture.resize((64, 64)).convert("RGB")
    pixels = sorted(grays.getpixel((x, y)) for x in range(64) for y in range(64))
    assert nearest(pixels[len(pixels) // 2], {"gray": GRAY, "red": RED, "black": (0, 0, 0), "white": (255,) * 3}) == "gray"
