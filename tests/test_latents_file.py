"""Latents in files are the VAE's raw ones, as ComfyUI's SaveLatent and LoadLatent mean them."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from parallel.cli import latents_file
from parallel.families.latent_format import LatentFormat
from parallel.job.errors import JobRefused

SHAPE = (4, 5, 6, 8)
FACTOR = 0.18215
SCALED, PLAIN = LatentFormat(std=(1 / FACTOR,)), LatentFormat()
VIDEO = "wanted latents of one video, (T, C, h, w) or (1, C, T, h, w)"


def test_a_file_holds_raw_latents_and_gives_back_what_the_net_sees(tmp_path):
    seen = torch.randn(1, *SHAPE)
    latents_file.save(tmp_path / "l.latent", seen, SCALED)
    stored = load_file(tmp_path / "l.latent")
    assert set(stored) == {"latent_tensor", "latent_format_version_0"} and stored["latent_tensor"].dtype == torch.float32
    assert torch.allclose(stored["latent_tensor"] * FACTOR, seen[0].movedim(0, 1))
    assert torch.allclose(latents_file.load(tmp_path / "l.latent", SHAPE, SCALED), seen[0])
    assert [file.name for file in tmp_path.iterdir()] == ["l.latent"]
    (tmp_path / "any").touch()
    assert (tmp_path / "l.latent").stat().st_mode == (tmp_path / "any").stat().st_mode, "as readable as any file"


@pytest.mark.parametrize(
    "tensors, factor",
    [
        (lambda x: {"latent_tensor": x, "latent_format_version_0": torch.tensor([])}, FACTOR),
        (lambda x: {"latent_tensor": x}, 1.0),  # ComfyUI's files of before the mark: what Stable Diffusion's net saw
        (lambda x: {"latents": x}, 1.0),  # this pack's of before
        (lambda x: {"latents": x.half()}, 1.0),
    ],
)
def test_each_form_means_what_it_meant(tmp_path, tensors, factor):
    raw = torch.ones(1, *SHAPE)
    save_file(tensors(raw), tmp_path / "l.latent")
    got = latents_file.load(tmp_path / "l.latent", SHAPE, SCALED)
    assert got.dtype == torch.float32 and torch.allclose(got, factor * raw[0])


def test_a_latent_of_the_packs_own_nodes_is_read(tmp_path):
    """They give out a frame an item of the batch (nodes/border.py), and ComfyUI's SaveLatent writes that as it is."""
    video = torch.randn(1, *SHAPE)
    frames_TCHW = video[0].movedim(0, 1).contiguous()
    save_file({"latent_tensor": frames_TCHW, "latent_format_version_0": torch.tensor([])}, tmp_path / "l.latent")
    assert torch.equal(latents_file.load(tmp_path / "l.latent", SHAPE, PLAIN), video[0])


def test_one_frame_stands_for_all_and_more_than_wanted_are_left_out(tmp_path):
    mark, said = {"latent_format_version_0": torch.tensor([])}, []
    picture = torch.randn(1, 4, 6, 8)
    for number, one in enumerate((picture, picture[:, :, None])):  # as ComfyUI's VAE Encode gives it, and as a video
        save_file({"latent_tensor": one.contiguous(), **mark}, tmp_path / f"{number}.latent")
        got = latents_file.load(tmp_path / f"{number}.latent", SHAPE, PLAIN, notify=said.append)
        assert torch.equal(got, picture[0][:, None].expand(SHAPE)) and said == []
    long = torch.randn(1, 4, 9, 6, 8)
    save_file({"latent_tensor": long, **mark}, tmp_path / "long.latent")
    assert torch.equal(latents_file.load(tmp_path / "long.latent", SHAPE, PLAIN, notify=said.append), long[0, :, :5])
    assert said == [f"init {tmp_path / 'long.latent'} has 9 frames: the first 5 are used"]


@pytest.mark.parametrize(
    "shape, said",
    [
        ((1, 16, 5, 6, 8), "wanted latents of 4 channels, got 16: they are of another model"),
        ((1, 4, 5, 8, 6), "wanted latents of 8x6, got 6x8: use its --width and --height"),
        ((1, 4, 3, 6, 8), "wanted 5 frames (or one for all), got 3: use --frames 3"),
        ((3, 4, 6, 8), "wanted 5 frames (or one for all), got 3: use --frames 3"),
        ((2, 4, 5, 6, 8), f"{VIDEO}, got (2, 4, 5, 6, 8): encode it as one video"),
        ((1, 4, 0, 6, 8), f"{VIDEO}, got (1, 4, 0, 6, 8): encode it as one video"),
        ((), f"{VIDEO}, got (): encode it as one video"),
    ],
)
def test_latents_of_another_model_or_size_are_refused_in_words(tmp_path, shape, said):
    save_file({"latent_tensor": torch.zeros(shape)}, tmp_path / "l.latent")
    with pytest.raises(JobRefused) as refused:
        latents_file.load(tmp_path / "l.latent", SHAPE, PLAIN)
    assert str(refused.value) == f"init {tmp_path / 'l.latent'}: {said}"


def test_what_holds_no_latents_is_refused(tmp_path):
    file = tmp_path / "l.latent"
    for write in (
        lambda: None,
        lambda: file.write_bytes(b"garbage"),
        lambda: file.write_bytes(b"\xff" * 100),
        lambda: save_file({"x": torch.zeros(2)}, file),
        lambda: save_file({}, file),
        lambda: save_file({"latents": torch.full((1, *SHAPE), float("nan"))}, file),
    ):
        write()
        with pytest.raises(
            JobRefused, match=r"(does not exist|holds no latents .*): give a file that --latents or ComfyUI's SaveLatent wrote$"
        ):
            latents_file.load(file, SHAPE, PLAIN)


def test_latents_that_are_all_that_is_left_find_a_place(tmp_path):
    latents = torch.randn(1, *SHAPE)
    kept = latents_file.rescue([tmp_path / "gone", tmp_path], latents, PLAIN)
    assert (
        kept is not None and kept.parent == tmp_path and torch.equal(load_file(kept)["latent_tensor"], latents[0].movedim(0, 1))
    )
    assert latents_file.rescue([tmp_path / "gone"], latents, PLAIN) is None
    assert list(tmp_path.iterdir()) == [kept]
