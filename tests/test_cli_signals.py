"""The command line ended from outside, by a key, a signal or a machine that went down: nothing is left but what can go on."""

import contextlib
import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.places import ROOT
from harness.processes import ends, ends_within, rank_processes, templates
from parallel.pool import snapshot_file
from tests.command_line import command, on_warm, run

POLL_SECONDS = 0.01


def start_long_job(model, folder: Path, **options) -> subprocess.Popen:
    more = ["--prompt", "a cat", "--steps", 1000, "--frames", 40, "--output", folder / "v.mp4"]
    return subprocess.Popen(command(model, *more), cwd=ROOT, start_new_session=True, **options)


def open_terminal() -> tuple[int, int]:
    """Return our end and theirs of a terminal of 24 x 80; without a size tqdm shows nothing."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    return ours, theirs


def read_until_denoising(terminal: int) -> bytes:
    """Return what a long job has said once its bar shows a step."""
    said = b""
    while not re.search(rb"denoise:.* [1-9]\d*/1000", said):
        said += os.read(terminal, 4096)
        assert b"40 frames of" not in said, "the job ended before the bar was seen"
    return said


def test_a_host_that_is_killed_while_ranks_denoise_leaves_none_and_the_run_goes_on_from_its_snapshot(
    tiny, tmp_path, pools, capsys
):
    """As after a machine that went down: nothing tidies up."""
    kept, output, latents = (tmp_path / name for name in ("kept.safetensors", "v.webp", "l.safetensors"))
    job = ["--prompt", "a cat", "--steps", 12, "--guidance", 1, "--scheduler", "dpmpp_2m"]
    host = subprocess.Popen(command(tiny, *job, "--snapshot", kept, "--snapshot-seconds", 0, "--output", output), cwd=ROOT)
    try:
        while not kept.exists():  # there is no event to wait for: the file is another process's
            assert not ends_within(host, POLL_SECONDS), "it ended before it kept anything"
        ranks, template = rank_processes(host.pid), templates(host.pid)
    finally:
        host.kill()
        host.wait()
    assert len(ranks) == 2
    assert all(ends(pid) for pid in ranks + template), "a process outlived its host by 5 s"
    assert list(tmp_path.iterdir()) == [kept]
    stored = snapshot_file.load(kept)
    assert 0 < stored.step < 12
    resume = ["generate", "--resume", str(kept), "--devices", "cpu", "--output", str(output), "--latents", str(latents)]
    assert run([*resume, "--seed", "3"]) == 2
    assert capsys.readouterr().err == "error: --resume goes on with its own job: leave out --seed\n"
    assert run(resume, on_warm(pools)) == 0
    assert not kept.exists(), "a finished run needs none"
    seen = load_file(latents)["latent_tensor"].movedim(0, 1) * 0.18215
    assert torch.allclose(seen, pools(3).run(stored.job).latents, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_ranks_start_leaves_no_process_and_no_file(tiny, tmp_path, sent):
    """As the template that they are to be forked from imports what they need. (Killed then: test_launchers.py.)"""
    host = start_long_job(tiny, tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        while not templates(host.pid):
            assert not ends_within(host, POLL_SECONDS)
        pids = rank_processes(host.pid) + templates(host.pid)
        host.send_signal(sent)
        _, said = host.communicate(timeout=30)
    finally:
        host.kill()
    assert host.returncode == 130
    assert said.splitlines()[-1] == "stopped: nothing was written"
    assert all(ends(pid) for pid in pids), "a process outlived its host by 5 s"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_on_a_terminal_stops_all_ranks_within_a_step(tiny, tmp_path):
    """A real terminal: the bar shows, and the key goes to the whole foreground group, as it does in a shell."""
    ours, theirs = open_terminal()
    take = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # noqa: E731
    host = start_long_job(tiny, tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=take)
    os.close(theirs)
    try:
        said = read_until_denoising(ours)
        ranks, template = rank_processes(host.pid), templates(host.pid)
        os.write(ours, b"\x03")
        with contextlib.suppress(OSError):  # EIO is the end of a terminal
            while part := os.read(ours, 4096):
                said += part
        assert host.wait(timeout=30) == 130
    finally:
        host.kill()
        os.close(ours)
    assert b"stopping after this step" in said and said.endswith(b"stopped: nothing was written\r\n")
    steps = [int(step) for step in re.findall(rb" (\d+)/1000", said)]
    assert 0 < max(steps) < 500
    assert len(ranks) == 2
    assert all(ends(pid) for pid in ranks + template), "a process outlived its host by 5 s"
    assert list(tmp_path.iterdir()) == []
