"""A run never ends because nobody listens: streams that are closed, full, or gone."""

import io
import os
import subprocess
import sys

import pytest

from harness.places import ROOT
from parallel.cli import terminal
from parallel.wire.messages import Step
from tests.test_cli_signals import open_terminal


@pytest.mark.parametrize("name, speak", [("stdout", terminal.say), ("stderr", terminal.warn)])
@pytest.mark.parametrize("kind", ["broken", "full", "closed"])
def test_a_line_that_nobody_takes_is_let_go(monkeypatch, name, speak, kind):
    reader, writer = os.pipe()
    os.close(reader)
    if kind == "full":
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    stream = os.fdopen(writer, "w")
    if kind == "closed":
        stream.detach().detach().close()
    monkeypatch.setattr(sys, name, stream)
    speak("a line")
    speak("another")
    terminal.close_streams()
    if kind != "closed":
        assert os.path.samestat(os.fstat(stream.fileno()), os.stat(os.devnull)), "what comes now goes nowhere"
        stream.close()  # nothing is left in it that could fail now


def test_streams_that_the_caller_closed_are_opened_on_nothing():
    """Else a file of the run would become stream 2, and what FFmpeg logs would be written into it."""
    code = (
        "import os, sys\nfrom parallel.cli import generate, terminal\nsys.argv[1:] = ['generate', '--no-such-option']\n"
        "try:\n  generate.main()\nexcept SystemExit as left:\n  assert left.code == 2\n"
        "terminal.say('a')\nterminal.warn('b')\n"
        "assert [stream.fileno() for stream in (sys.stdin, sys.stdout, sys.stderr)] == [0, 1, 2]\n"
        "assert os.open(os.devnull, os.O_RDONLY) > 2\nterminal.close_streams()"
    )
    shell = 'exec "$0" -c "$1" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", shell, sys.executable, code], cwd=ROOT).returncode == 0


def test_a_bar_lets_go_of_a_terminal_that_is_gone(monkeypatch):
    ours, theirs = open_terminal()
    with os.fdopen(theirs, "w", closefd=False) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        bar = terminal.Bar()
        step = Step(rank=0, number=1, phase="denoise", step=1, steps=9)
        bar(step, None)
        assert b"denoise" in os.read(ours, 4096)
        os.close(ours)
        for number in range(2, 9):
            bar.bar.last_print_t = 0  # it is time to draw again, and fails
            bar(step.model_copy(update={"step": number}), None)
        bar.close()
        terminal.close_streams()
    os.close(theirs)


def test_a_name_that_the_terminal_can_not_write_is_said_in_escapes(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    terminal.open_streams()
    terminal.say("\u00e9 \udcff")
    assert written.getvalue() == b"\\xe9 \\udcff\n"
