"""How a rank's process starts, whatever the interpreter, and what is left of one that could not."""

import io
import json
import os
import subprocess
import sys
from contextlib import suppress

import pytest
import torch
import torch.distributed as dist

from harness.jobs import job
from harness.places import BUNDLED, ROOT
from parallel.comm.group import open_group
from parallel.job.errors import PeerLost, RankFailed
from parallel.pool import Pool, launch, launchers, local, ranks
from parallel.pool.output import Output, last_words


def channels_open() -> int:
    """Return how many pipes and sockets this process has open."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one by which they are listed
            found += os.readlink(f"/proc/self/fd/{number}").startswith(("pipe:", "socket:"))
    return found


# Without the pool, whose import takes torch's time.
COMMAND = (
    "import importlib.util, json, sys; spec = importlib.util.spec_from_file_location('launch', sys.argv[1]); "
    "launch = importlib.util.module_from_spec(spec); spec.loader.exec_module(launch); print(json.dumps(launch.command(sys.argv[2])))"
)


LIGHT = "parallel.wire.forks"  # imports from the pack and its packages, and not torch


@pytest.mark.parametrize(
    "module, flags, environment",
    [
        ("parallel.rank.worker", (), {}),
        (LIGHT, (), {"PYTHONSAFEPATH": "1"}),
        (LIGHT, (), {"PYTHONPATH": "."}),
        (LIGHT, ("-E",), {"PYTHONPATH": "."}),
        (LIGHT, ("-I",), {"PYTHONPATH": "."}),
        (LIGHT, ("-s", "-X", "utf8"), {}),
    ],
)
def test_a_rank_finds_the_pack_and_no_namesake_whatever_the_interpreters_settings(tmp_path, module, flags, environment):
    for name in ("parallel", "wire", "errors", "runpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a namesake in the folder that the host runs in')")
    if environment.get("PYTHONPATH"):
        (tmp_path / "runpy.py").unlink()  # what a user puts there comes first, for the host as for a rank
    host = [sys.executable, *flags, "-c", COMMAND, str(ROOT / "parallel" / "pool" / "launch.py"), module]
    environment = {**os.environ, **environment}
    words = json.loads(subprocess.run(host, cwd=ROOT, env=environment, capture_output=True, check=True).stdout)
    started = subprocess.run(
        words, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert (started.returncode, started.stderr) == (0, ""), (
        "it found all that it needs to read who it is, and nobody wrote that"
    )


def test_a_rank_has_the_hosts_settings_of_where_modules_come_from_and_how_text_is_read():
    words = subprocess.run(
        [sys.executable, "-s", "-B", "-X", "utf8", "-c", COMMAND, str(ROOT / "parallel" / "pool" / "launch.py"), LIGHT],
        capture_output=True,
        check=True,
    )
    assert json.loads(words.stdout)[1:5] == ["-s", "-B", "-X", "utf8=1"]


@pytest.mark.parametrize(
    "setting, left",
    [
        ("backend:cudaMallocAsync", None),
        ("expandable_segments:True,backend:cudaMallocAsync", "expandable_segments:True"),
        ("backend:cudaMallocAsync,expandable_segments:True", "expandable_segments:True"),
        ("roundup_power2_divisions:[256:1,>:4], backend: cudaMallocAsync", "roundup_power2_divisions:[256:1,>:4]"),
        ("backend:native,backend:cudaMallocAsync", "backend:native"),
        ("max_split_size_mb:128", "max_split_size_mb:128"),
    ],
)
@pytest.mark.parametrize("name", ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"])
def test_ranks_leave_out_comfyuis_allocator_and_keep_what_the_user_set(monkeypatch, name, setting, left):
    monkeypatch.setenv(name, setting)
    assert launch.environment().get(name) == left
    assert os.environ[name] == setting


@pytest.fixture(params=[launchers.Plain, launchers.Forking])
def launcher(request, monkeypatch):
    """Each way to make processes, one after another, for the pools of a test. (A template is soon there that imports nothing.)"""
    monkeypatch.setattr(launchers, "PRELOADED", ())
    monkeypatch.setattr(local, "fastest_launcher", lambda ranks: request.param())
    return request.param


@pytest.fixture
def worker(tmp_path, monkeypatch, launcher):
    """A function that lets ranks be a few lines of Python instead; it returns the file that has a line for each that started."""

    def write(body: str):
        begun = tmp_path / "begun"
        (tmp_path / "stand_in_for_a_rank.py").write_text(f"print('here', file=open({str(begun)!r}, 'a'))\n{body}\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(ranks, "WORKER", "stand_in_for_a_rank")
        return begun

    return write


def test_a_rank_that_can_not_start_says_why_and_is_not_tried_again(worker, monkeypatch, caplog):
    begun = worker("import no_such_package")
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # as under ComfyUI, not a file
    before = channels_open()
    said = (
        r"^rank 0 on cpu ended while it started, exit code 1: ModuleNotFoundError: No module named 'no_such_package' "
        r"\(more of what it wrote is in the log\)$"
    )
    with Pool(("cpu",), threads=1) as pool, pytest.raises(RankFailed, match=said) as failed:
        pool.run(job(BUNDLED))
    assert failed.value.traceback.startswith("Traceback") and "stand_in_for_a_rank.py" in caplog.text
    assert begun.read_text() == "here\n"
    assert channels_open() == before, "none is left of it"


def test_a_crash_that_comes_again_on_the_next_start_is_the_end(worker):
    begun = worker("import faulthandler, os\nfaulthandler.enable()\nos.abort()")
    with Pool(("cpu",), threads=1) as pool, pytest.raises(RankFailed, match=r"exit code -6: Fatal Python error: Aborted"):
        pool.run(job(BUNDLED))
    assert begun.read_text() == "here\nhere\n"


def test_a_rank_that_is_killed_as_it_starts_is_started_again(worker):
    begun = worker("import os\nos.kill(os.getpid(), 9)")
    with (
        Pool(("cpu",), threads=1, restarts=1) as pool,
        pytest.raises(RankFailed, match=r"exit code -9: if it was not you who killed it"),
    ):
        pool.run(job(BUNDLED))
    assert begun.read_text() == "here\nhere\n"


def test_an_interpreter_that_is_not_there_is_one_clear_error(monkeypatch, launcher):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with (
        Pool(("cpu",), threads=1) as pool,
        pytest.raises(RankFailed, match=r"^the ranks could not be started \(.*python.*\): see"),
    ):
        pool.run(job(BUNDLED))


def test_what_a_rank_writes_reaches_the_hosts_standard_error_and_only_its_end_is_kept(capfd):
    code = "import sys; print('x' * 300_000); print('the end', file=sys.stderr)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0) as process:
        output = Output(process.stdout)
        assert process.wait(timeout=60) == 0, "nobody waits who writes"
    assert output.text().endswith("x\nthe end\n") and len(output.text()) < 10_000
    assert process.stdout.closed
    assert len(capfd.readouterr().err) == 300_009


@pytest.mark.parametrize(
    "text, words",
    [
        ("", ""),
        ("one\n\n  two \n", "two"),
        ("Traceback (most recent call last):\n  File 'x'\nImportError: libcudart.so.12: no such file\n", None),
        (
            "terminate called after throwing an instance of 'std::runtime_error'\n  what():  no\n",
            "terminate called after throwing an instance of 'std::runtime_error' / what(): no",
        ),
        ("an error: a\nError: \x1b]0;title\x07b\n", "Error: ?]0;title?b"),
        ("error " + "x" * 9999, "error " + "x" * 494),
    ],
)
def test_last_words_are_the_line_that_names_an_error_in_printable_letters(text, words):
    assert last_words(text) == (text.splitlines()[-1] if words is None else words)


NO_LIBUV = RuntimeError("use_libuv was requested but PyTorch was built without libuv support")  # as built for Windows
NO_SOCKETS = NotImplementedError("The libuv TCPStore backend does not support initialization with an listen fd.")  # before 2.8


def store_that_raises(error: Exception):
    """Return torch's store, but for an error if libuv's is asked for, as it was in versions that this test can't have."""

    def make(*arguments, use_libuv=True, **options):
        if use_libuv:
            raise error
        return real(*arguments, use_libuv=False, **options)

    real = dist.TCPStore
    return make


def no_group(*_, **__):
    raise RuntimeError("far enough")


@pytest.mark.parametrize("system, error", [("posix", NO_LIBUV), ("posix", NO_SOCKETS), ("nt", NO_LIBUV)])
def test_ranks_meet_where_torch_has_no_libuv_that_will_do(monkeypatch, system, error):
    monkeypatch.setattr(ranks, "TCPStore", store_that_raises(error))
    before = channels_open()
    with monkeypatch.context() as patch:
        patch.setattr(ranks.os, "name", system)
        opened = ranks.open_store()
    dist.TCPStore("127.0.0.1", opened.port, is_master=False, use_libuv=False).set("word", "yes")
    assert opened.get("word") == b"yes"
    del opened
    assert channels_open() == before


def test_a_rank_asks_for_no_libuv(monkeypatch):
    host = ranks.open_store()
    monkeypatch.setattr(dist, "TCPStore", store_that_raises(NO_LIBUV))
    monkeypatch.setattr(dist, "init_process_group", no_group)
    with pytest.raises(PeerLost, match="far enough"):
        open_group(0, 2, torch.device("cpu"), host="127.0.0.1", port=host.port, name="none")
