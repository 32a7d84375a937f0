"""`python -m parallel generate`, as a person types it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from harness.places import ROOT
from harness.wan_builders import wan_folder
from parallel.cli import arguments, inits, latents_file, movies, request
from parallel.families.latent_format import LatentFormat
from parallel.job.job import Scope
from parallel.maths import noise
from scripts import contact_sheet
from tests.command_line import command, generate, refusal, run, words


def test_one_command_makes_the_video_its_latents_and_a_report(tiny, tmp_path, pools):
    (tmp_path / "timeline.txt").write_text("0: a cat\n0.5s: a dog\n")
    files = [tmp_path / name for name in ("v.mp4", "l.safetensors", "r.json")]
    more = [
        "--timeline",
        tmp_path / "timeline.txt",
        "--fade",
        1,
        "--output",
        files[0],
        "--latents",
        files[1],
        "--report",
        files[2],
    ]
    done = subprocess.run(command(tiny, *more, "--loop"), cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"7 frames of 16x16 in {files[0]}\n"
    assert done.stderr == ""
    assert inits.read(files[0], height=16, width=16, most=99).shape == (7, 16, 16, 3)
    latents = load_file(files[1])["latent_tensor"]
    assert latents.shape == (7, 4, 8, 8) and latents.dtype == torch.float32 and torch.isfinite(latents).all()
    report = json.loads(files[2].read_text())
    assert list(report["seconds"]) == ["start", "load", "encode", "denoise", "decode", "write"]
    assert [rank["rank"] for rank in report["ranks"]] == [0, 1]
    assert all(
        rank["sent_bytes"] > 0 and rank["waited_seconds"] > 0 and rank["peak_memory_bytes"] > 0 for rank in report["ranks"]
    )

    # Refined from its own latents, and from its own file.
    for init in files[:2]:
        folder = tmp_path / f"from {init.stem}"
        assert generate(pools, tiny, "--init", init, "--denoise", 0.5, "--output", folder) == 0
        assert len(list(folder.iterdir())) == 7


def seen_by_the_net(file: Path) -> torch.Tensor:
    """Return (1, C, T, h, w) of a file, which holds the VAE's raw latents, (T, C, h, w), as ComfyUI's do."""
    return load_file(file)["latent_tensor"].movedim(0, 1)[None] * 0.18215


def test_no_steps_store_the_starting_noise(tiny, tmp_path, pools):
    """For other programs to start from: by frame number, and so the same for any length and number of ranks."""
    file = tmp_path / "noise.safetensors"
    more = ["--steps", 0, "--seed", 5, "--latents", file, "--output", tmp_path / "v.webp"]
    assert generate(pools, tiny, *more) == 0
    stored = seen_by_the_net(file)
    assert torch.allclose(stored, noise.draw_frames(5, range(7), (4, 8, 8)), atol=1e-6)
    assert generate(pools, tiny, *more, "--noise", "shuffled", "--noise-window", 4, "--noise-stride", 2) == 0
    assert len(inits.read(tmp_path / "v.webp", most=99)) == 7
    stored = seen_by_the_net(file)
    assert torch.allclose(stored, noise.draw_shuffled(5, range(7), (4, 8, 8), window=4, stride=2), atol=1e-6)


def test_the_contact_sheet_marks_where_a_clip_begins(tmp_path, monkeypatch):
    movies.write(torch.full((10, 32, 32, 3), 0.5), tmp_path / "v.mp4", 8)
    sheet = ["--ranks", "2", "--columns", "5", "--output", str(tmp_path / "sheet.png")]
    monkeypatch.setattr(sys, "argv", ["contact_sheet", str(tmp_path / "v.mp4"), *sheet])
    contact_sheet.main()
    with Image.open(tmp_path / "sheet.png") as picture:
        cell = (picture.width // 5, picture.height // 2)
        marks = [
            picture.getpixel((cell[0] * (n % 5) + 1, cell[1] * (n // 5) + cell[1] // 2)) == contact_sheet.BORDER
            for n in range(10)
        ]
    assert [n for n, mark in enumerate(marks) if mark] == [0, 5]


def test_files_that_something_is_kept_in_are_not_written_over(tiny, tmp_path, capsys):
    kept = tmp_path / "kept.safetensors"
    kept.write_bytes(b"earlier")
    said = refusal(capsys, tiny, "--prompt", "a", "--snapshot", kept, "--output", tmp_path / "v.mp4")
    assert said == f"error: snapshot {kept} is there already: go on with --resume {kept}, or remove it\n"
    twice = tmp_path / "l.safetensors"
    same = ["--prompt", "a", "--snapshot", twice, "--latents", twice, "--output", tmp_path / "v.mp4"]
    said = refusal(capsys, tiny, *same)
    assert said.startswith("error: output, latents, report, snapshot: wanted a file each, got one name twice")
    assert kept.read_bytes() == b"earlier"


def test_wrong_arguments_are_refused_in_one_line(tiny, tmp_path, capsys):
    def said(*more):
        return refusal(capsys, tiny, "--output", tmp_path / "v.mp4", *more)

    assert said() == "error: wanted either --prompt TEXT or --timeline FILE\n"
    for wrong, why in (
        (("--frames", "1.5"), "argument --frames: invalid int value: '1.5'"),
        (("--frame", "3"), "ambiguous option: --frame could match --frames, --frames-at-once"),
        (("--colour", "red"), "unrecognized arguments: --colour red"),
        (("--guidance", "4,3,2"), "argument --guidance: wanted a number, or two such as 4,3, got '4,3,2'"),
        (("--global-frames", "all"), "argument --global-frames: wanted a number of frames or auto, got 'all'"),
    ):
        with pytest.raises(SystemExit, match=r"^2$"):
            said("--prompt", "a", *wrong)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {why}: python -m parallel") and line.endswith("--help has all options")
    assert said("--prompt", "a", "--parts", "/nope").startswith("error: parts folder /nope does not exist: ")
    assert said("--steps", 0, "--init", "/nope.latent").startswith("error: init /nope.latent does not exist: give a file that")
    assert said("--prompt", "a", "--timeline", "t") == "error: wanted either --prompt TEXT or --timeline FILE\n"
    assert said("--prompt", "a", "--frames", 0) == "error: frames: wanted at least 1, got 0\n"
    assert said("--prompt", "a", "--frames", 1) == "error: cannot cut 1 frames into 2 clips: use at most 1 ranks\n"
    assert said("--prompt", "a", "--height", 17) == "error: height: wanted a multiple of 2, got 17: use 16\n"
    assert said("--prompt", "a", "--scheduler", "heun").startswith("error: scheduler: wanted 'model', 'ddim', ")
    assert said("--prompt", "a", "--noise-window", 6) == (
        "error: noise: wanted a window that is a multiple of the stride 4, got 6: use 4\n"
    )
    assert said("--prompt", "a", "--places", "far") == "error: places: wanted 'near' or 'true', got 'far'\n"
    assert said("--prompt", "a", "--travel", "far").startswith(
        "error: travel: wanted 'auto', 'hidden_states' or 'keys_values', got"
    )
    assert said("--prompt", "a", "--local-context", -1) == "error: local_context: wanted greater than or equal to 0, got -1\n"
    of_wan = {
        ("--guidance", "4,3"): "cfg_low_noise, the second of --guidance: this model has one net: leave it out",
        ("--shift", 3): "shift: this model's schedule is not one of flow matching, and has no shift: leave it out",
        ("--travel", "keys_values"): "travel: it is of 3D attention, which this model has not: use auto",
        ("--rotate",): "places, rotate, full_windows: they are of 3D attention, which this model has not: leave them out",
    }
    for options, why in of_wan.items():
        assert said("--prompt", "a", *options) == f"error: {why}\n"
    assert said("--prompt", "a", "--noise-share", 2) == "error: noise.share: wanted less than or equal to 1, got 2.0\n"
    assert said("--prompt", "a", "--devices", "cuda:77").startswith("error: device cuda:77 is not there: ")
    assert said("--prompt", "a", "--output", tmp_path / "no" / "v.mp4") == (
        f"error: output folder {tmp_path / 'no'} does not exist: make it first\n"
    )
    assert said("--prompt", "a", "--latents", "/nowhere/x.safetensors") == (
        "error: output folder /nowhere does not exist: make it first\n"
    )
    assert said("--timeline", tmp_path / "t").startswith(f"error: timeline {tmp_path / 't'} can't be read")
    (tmp_path / "t").write_text("0: a\n9: b")
    assert said("--timeline", tmp_path / "t") == (
        "error: timeline line 2: frame 9 is past the end of a video of 7 frames: use frames 0 to 6\n"
    )
    assert said("--prompt", "a", "--restarts", -1) == "error: restarts: wanted greater than or equal to 0, got -1\n"
    assert said("--prompt", "a", "--threads", 0) == "error: threads: wanted greater than or equal to 1, got 0\n"
    assert said("--prompt", "a", "--snapshot-seconds", "nan") == "error: snapshot_seconds: wanted a finite number, got nan\n"
    (tmp_path / "x.safetensors").write_bytes(b"garbage")
    assert said("--prompt", "a", "--init", tmp_path / "x.safetensors").startswith("error: init ")
    assert said("--prompt", "a", "--denoise", 0.5) == (
        "error: denoise: 0.5 needs a video or latents to start from: give an init, or use 1\n"
    )


def test_help_names_each_default_once_and_what_auto_is(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        run(["generate", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for part in (
        "of a model with two nets two numbers, such as 4,3: high noise, low (default: 7.5) --shift",
        "at high noise (default: the model's own) --seed",
        "frames on either side that a frame attends to; auto: what suits the model (default: auto) --global-frames",
        "global frames but the first move on by one latent a step --full-windows",
        "takes over from the one before (default: 0) --negative",
    ):
        assert part in told, part


def test_options_of_wan_come_into_its_job():
    def job(*more: str):
        return request.build_job(arguments.build_parser().parse_args(["generate", "--prompt", "a", *more]))

    plain = job()
    assert (plain.guidance_scale, plain.guidance_scale_2, plain.shift) == (7.5, None, None)
    assert plain.scope == Scope() and job("--local-context", "auto", "--model-frames", "auto").scope == Scope()
    both = job("--guidance", "4,3", "--shift", "12", "--local-context", "24", "--travel", "keys_values")
    assert (both.guidance_scale, both.guidance_scale_2, both.shift) == (4.0, 3.0, 12.0)
    assert (both.scope.local_context, both.scope.global_frames, both.tuning.travel) == (24, None, "keys_values")
    scope = job("--places", "true", "--rotate", "--full-windows").scope
    assert (scope.places, scope.rotate, scope.full_windows) == ("true", True, True)


NUMBERS = [*map(str, (-1, 0, 2**31, 2**63, 10**30)), "nan", "inf", "-inf", "1e308", "-1e-300", "x", ""]


def test_every_number_is_taken_or_refused_in_words(tiny, tmp_path, pools, monkeypatch, capsys):
    """Of every option that takes one; no number ends in a traceback. What is taken is not run: that takes a rank."""
    monkeypatch.setattr(movies, "check_output", lambda *_, **__: 1 / 0)  # only what passes all doors comes there
    actions = arguments.build_parser()._subparsers._group_actions[0].choices["generate"]._actions
    options = [action for action in actions if action.type is not None]
    assert len(options) > 24
    for action in options:
        for number in NUMBERS:
            values = (
                [f"{action.option_strings[0]}={number}"] if action.nargs is None else [action.option_strings[0], number, "0"]
            )
            try:
                code = run(words(tiny, "--prompt", "a", "--output", tmp_path / "v", *values))
            except ZeroDivisionError:
                continue
            except SystemExit as left:  # argparse's own refusal
                code = left.code
            said = capsys.readouterr().err
            assert code == 2 and "error: " in said.splitlines()[-1] and len(said) < 5000, (values, said)


def test_what_is_read_is_not_written_over(tiny, tmp_path, capsys):
    film, folder = tmp_path / "v.mp4", tmp_path / "clips"
    film.write_bytes(b"precious")
    (tmp_path / "link.mp4").symlink_to(film)
    said = refusal(capsys, tiny, "--prompt", "a", "--init", film, "--output", tmp_path / "link.mp4")
    assert said == f"error: init {film} would be written over: give what is made another name\n"
    said = refusal(capsys, tiny, "--timeline", film, "--output", tmp_path / "o.mp4", "--report", film)
    assert said.startswith("error: timeline")
    folder.mkdir()
    said = refusal(capsys, tiny, "--prompt", "a", "--output", folder, "--latents", folder / "l.latent")
    assert said == f"error: {folder / 'l.latent'} would be in the output folder, which is for frames alone: put it elsewhere\n"
    assert film.read_bytes() == b"precious"


def test_an_init_of_another_length_is_refused_in_words(tiny, tmp_path, capsys):
    movies.write(torch.rand(3, 16, 16, 3), tmp_path / "i.webp", 8)
    more = ["--prompt", "a", "--denoise", 0.5, "--output", tmp_path / "v.mp4", "--init"]
    said = refusal(capsys, tiny, *more, tmp_path / "i.webp")
    assert said == (
        f"error: init {tmp_path / 'i.webp'}: wanted 7 frames, as the job has, or one picture for all, got 3: use --frames 3\n"
    )
    latents_file.save(tmp_path / "l.latent", torch.zeros(1, 4, 3, 8, 8), LatentFormat())
    said = refusal(capsys, tiny, *more, tmp_path / "l.latent")
    assert said == f"error: init {tmp_path / 'l.latent'}: wanted 7 frames (or one for all), got 3: use --frames 3\n"


def test_a_wan_is_made_cut_to_its_length_and_made_again_from_its_latents(tmp_path, pools, capsys):
    """Seven frames are three latents, which hold nine."""
    model, file = wan_folder(tmp_path / "wan"), tmp_path / "l.latent"
    assert generate(pools, model, "--latents", file, "--output", tmp_path / "first", "--guidance", 3, "--shift", 5) == 0
    assert len(list((tmp_path / "first").iterdir())) == 7
    assert load_file(file)["latent_tensor"].shape == (1, 4, 3, 2, 2), "as ComfyUI's nodes have it"
    more = ["--init", file, "--output", tmp_path / "second", "--denoise", 0.5]
    assert generate(pools, model, *more) == 0
    assert len(list((tmp_path / "second").iterdir())) == 7
    more[3] = tmp_path / "third"
    note = "note: 16x16 is far from what this model was trained on: use about 832x480 or 1280x720, or expect worse frames\n"
    assert note in capsys.readouterr().err
    said = refusal(capsys, model, "--prompt", "a", *more, "--frames", 10)
    assert said == f"error: init {file}: wanted 4 latents (or one for all), got 3: use --frames 9\n"
    said = refusal(capsys, model, "--prompt", "a", "--output", tmp_path / "v.mp4", "--width", 24)
    assert said == "error: width: wanted a multiple of 16, got 24: use 32\n"


def test_latents_of_every_form_start_the_same_video(tiny, tmp_path, pools):
    """A file of ours, one of ComfyUI's SaveLatent, and one of an earlier version, which held what the net sees."""
    seen = torch.randn(1, 4, 7, 8, 8, generator=torch.Generator().manual_seed(0))
    latents_file.save(tmp_path / "ours.latent", seen, LatentFormat(std=(1 / 0.18215,)))
    save_file({"latents": seen}, tmp_path / "earlier.safetensors")
    raw = {"latent_tensor": seen / 0.18215, "latent_format_version_0": torch.tensor([])}
    save_file(raw, tmp_path / "comfyui.latent", metadata={"prompt": "{}"})
    videos = []
    for init in ("ours.latent", "earlier.safetensors", "comfyui.latent"):
        more = ["--init", tmp_path / init, "--denoise", 0.5, "--output", tmp_path / f"from {init}".replace(".", " ")]
        assert generate(pools, tiny, *more) == 0
        videos.append(inits.read(more[-1], most=7).float())
    assert all((video - videos[0]).abs().max() <= 1 for video in videos) and videos[0].std() > 1
