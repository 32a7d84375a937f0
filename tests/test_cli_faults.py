"""The command line where the system or the numbers fail: what is finished is kept, and the true cause is said."""

import resource
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from harness.jobs import job
from harness.places import ROOT
from parallel.cli import inits, latents_file, limits, movies, results
from parallel.families import folder
from parallel.job.job import Scope
from parallel.pool.movie import Movie
from tests.command_line import command, generate, run, words
from tests.test_overflow import louder


def full(*_):
    raise OSError(28, "No space left on device")


def full_from_the_second_frame_on(movie, number, frame, encode=Movie._encode):
    """As `Movie._encode`, which has one frame to encode when the output is tried."""
    return encode(movie, number, frame) if number == 0 else full()


@pytest.mark.parametrize("fails", ["video", "latents", "report"])
def test_an_output_that_can_not_be_written_costs_no_other_one(tiny, tmp_path, pools, monkeypatch, capsys, fails):
    """As if the disk were full for one of them."""
    files = {name: tmp_path / file for name, file in (("video", "v"), ("latents", "l.latent"), ("report", "r.json"))}

    place, function = {"video": (movies, "write"), "latents": (latents_file, "save"), "report": (results, "write_report")}[
        fails
    ]
    with monkeypatch.context() as patch:
        patch.setattr(place, function, full)
        outputs = ["--output", files["video"], "--latents", files["latents"], "--report", files["report"]]
        assert generate(pools, tiny, *outputs) == 1
    said = capsys.readouterr()
    reason = f"error: {files[fails]} could not be written ([Errno 28] No space left on device): make room on its disk"
    assert {name for name, file in files.items() if file.exists()} == files.keys() - {fails}
    assert said.out == ("" if fails == "video" else f"7 frames of 16x16 in {files['video']}\n")
    if fails != "video":
        assert said.err == reason + ("; its latents found no room elsewhere either\n" if fails == "latents" else "\n")
        return
    kept = files["latents"]
    way = f"its latents are in {kept}: with the same model and size, --init {kept} --steps 0 decodes and writes them again"
    assert said.err == f"{reason}; {way}\n"
    assert generate(pools, tiny, "--init", kept, "--steps", 0, "--output", files["video"]) == 0
    decoded = inits.read(files["video"], most=7).float() / 255
    assert generate(pools, tiny, "--output", tmp_path / "again") == 0
    assert (inits.read(tmp_path / "again", most=7).float() / 255 - decoded).abs().max() < 0.01


def test_a_video_that_can_not_be_written_leaves_its_latents_though_nobody_asked(tiny, tmp_path, pools, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(Movie, "_encode", full_from_the_second_frame_on)
        assert generate(pools, tiny, "--output", tmp_path / "v.mp4") == 1
    (kept,) = tmp_path.iterdir()
    assert f"its latents are in {kept}: " in capsys.readouterr().err
    assert load_file(kept)["latent_tensor"].shape == (7, 4, 8, 8)


def test_a_run_whose_video_can_not_be_written_can_go_on_from_its_snapshot(tiny, tmp_path, pools, monkeypatch, capsys):
    snapshot = tmp_path / "s"
    with monkeypatch.context() as patch:
        patch.setattr(Movie, "_encode", full_from_the_second_frame_on)
        assert generate(pools, tiny, "--output", tmp_path / "v.mp4", "--snapshot", snapshot) == 1
    assert f"--resume {snapshot} decodes and writes it again" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [snapshot]


def test_a_system_that_opens_no_more_files_is_blamed_for_that(tiny, tmp_path):
    """And not a disk that would be full, when nothing was made."""
    words = ["sh", "-c", 'ulimit -n 24; exec "$@"', "sh", *command(tiny, "--prompt", "a", "--output", tmp_path / "v.mp4")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: open files: wanted at least 96 for 2 ranks, got 24: allow more (ulimit -n 96)\n"
    assert list(tmp_path.iterdir()) == []


def test_latents_outlive_a_decode_that_overflows(tiny, tmp_path, pools, capsys):
    loud = louder(tiny, tmp_path / "loud", "vae", "decoder.conv_out.weight")
    more = ["--prompt", "a cat", "--dtype", "float16", "--output", tmp_path / "v.webp", "--devices", "cpu"]
    assert run(words(loud, *more)) == 1
    note, error = capsys.readouterr().err.splitlines()[-2:]
    (kept,) = tmp_path.glob("*.latent")
    assert error == "error: the numbers overflowed in float16 while the VAE decoded: use dtype bfloat16 or float32"
    assert note == (
        f"note: all steps were done: its latents are in {kept}: with the same model and size, --init {kept} --steps 0 decodes and "
        "writes them again"
    )
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["loud", kept.name])
    settings = {
        "frames": 7,
        "num_inference_steps": 2,
        "dtype": "float16",
        "decode": False,
        "scope": Scope(),
        "guidance_scale": 7.5,
    }
    expected = pools(1).run(job(tiny, **settings)).latents
    factor = folder.inspect(str(loud)).scaling_factor
    assert torch.allclose(load_file(kept)["latent_tensor"] * factor, expected[0].movedim(0, 1), atol=1e-3)


def test_a_low_limit_of_open_files_that_may_be_raised_is_raised():
    """As on macOS, whose soft limit is 256 and whose hard one is none."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
        limits.check_open_files(2)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (200, before[1]), "enough"
        limits.check_open_files(16)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (320, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_what_the_system_refuses_before_a_video_is_made_is_said(tiny, tmp_path, capsys):
    class Full:
        def __init__(self, *_, **__):
            raise OSError(24, "Too many open files")

    assert run(words(tiny, "--prompt", "a", "--output", tmp_path / "v.mp4"), open_pool=Full) == 1
    cure = "allow more open files (ulimit -n), or use fewer ranks"
    assert capsys.readouterr().err == f"error: no video was made ([Errno 24] Too many open files): {cure}\n"
