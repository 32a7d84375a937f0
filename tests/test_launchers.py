"""A rank that is forked from a template is as one that was started by itself, and neither outlives its host."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from harness.jobs import job
from harness.places import ROOT
from harness.processes import called, children, ends, ends_within, templates
from parallel.job.errors import Stopped
from parallel.pool import Pool, forked, launchers
from parallel.pool.launchers import Forking, Plain

PROBE = "tests.probe"
POLL_SECONDS = 0.01
KINDS = {"plain": Plain, "forked": Forking}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")


def go_on() -> bool:
    return False


@pytest.fixture
def started(one_template):
    """A function that returns a process that was just started, of either kind; they are ended after the test."""
    running = []

    def start(kind: str):
        launcher = one_template if kind == "forked" else Plain()
        launcher.prepare(go_on)
        process = launcher.start(PROBE)
        assert isinstance(process, forked.Forked) == (kind == "forked")
        running.append(process)
        return process

    yield start
    for process in running:
        finish(process)


@pytest.fixture
def bare(monkeypatch):
    """A launcher whose template imports nothing, and so is soon there; it has none yet."""
    monkeypatch.setattr(launchers, "PRELOADED", ())
    launcher = Forking()
    yield launcher
    launcher.stop()


def finish(process) -> None:
    process.kill()
    process.wait(10)
    process.stdin.close()
    process.stdout.close()


def ask(process, expression: str):
    """Return what a probe says."""
    process.stdin.write(expression.encode() + b"\n")
    line = b""
    while not line.endswith(b"\n"):
        part = process.stdout.read(1)
        assert part, f"it ended: {line.decode()}"
        line += part
    return json.loads(line)


def files(pid: int | str) -> dict[int, str]:
    """Return what a process has open, by descriptor."""
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            found[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
    return found


def seconds_until_gone(descriptors: list[int], began: float) -> float:
    """Return how long after a moment the last of some processes ended; the descriptors are of processes."""
    left = set(descriptors)
    while left:
        ready, _, _ = select.select(list(left), [], [], 10)
        assert ready, "a process did not end in 10 s"
        left -= set(ready)
    return time.monotonic() - began


@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_has_its_own_descriptors_and_none_of_its_hosts_or_of_another_rank(started, kind):
    first, second = started(kind), started(kind)
    assert ask(first, "1") == ask(second, "1") == 1  # they run
    ours = files("self")
    for process in (first, second):
        own = files(process.pid)
        assert set(own) == {0, 1, 2}
        assert (own[0], own[1], own[2]) == (ours[process.stdin.fileno()], *[ours[process.stdout.fileno()]] * 2)
    first.stdin.close()
    assert first.wait(10) == 0, "its standard input ends with ours: nobody else holds it"
    assert ask(second, "2") == 2


def test_the_template_holds_nothing_of_the_ranks_and_no_second_thread_and_no_gpu(started, one_template):
    process, template = started("forked"), one_template._template.process.pid
    assert ask(process, "'torch' in sys.modules and 'diffusers' in sys.modules")
    assert not ask(process, "sys.modules['torch'].cuda.is_initialized()")
    assert len(os.listdir(f"/proc/{template}/task")) == 1
    assert not set(files(template).values()) & set(files(process.pid).values())
    assert not [name for name in files(template).values() if "nvidia" in name]


@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_has_a_session_of_its_own_and_our_folder_and_the_signals_of_a_new_process(started, kind):
    process = started(kind)
    assert ask(process, "[os.getsid(0), os.getpgid(0), os.getcwd()]") == [process.pid, process.pid, os.getcwd()]
    ignored = "[line.split()[1] for line in open('/proc/self/status') if line.startswith(('SigIgn', 'SigBlk'))]"
    assert ask(process, ignored) == ask(started("plain"), ignored)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_has_the_environment_that_the_host_has_as_it_starts(bare, monkeypatch, kind):
    seen, launcher = [], bare if kind == "forked" else Plain()
    for word in ("one", "two", None):
        monkeypatch.setenv("VIDEO_INFINITY_WORD", word) if word else monkeypatch.delenv("VIDEO_INFINITY_WORD")
        monkeypatch.setenv("MASTER_PORT", "1")  # a host's own, not for ranks
        launcher.prepare(go_on)
        process = launcher.start(PROBE)
        assert (type(process) is forked.Forked) == (kind == "forked")
        seen.append(ask(process, "dict(os.environ)"))
        wanted = {name: value for name, value in os.environ.items() if name != "MASTER_PORT"}
        assert {name: value for name, value in seen[-1].items() if name != "LC_CTYPE"} == wanted
        finish(process)
    assert [each.get("VIDEO_INFINITY_WORD") for each in seen] == ["one", "two", None]


def test_what_the_template_sets_for_its_imports_is_not_left_to_the_ranks(started):
    assert ask(started("forked"), "os.environ.get('OPENBLAS_NUM_THREADS')") == os.environ.get("OPENBLAS_NUM_THREADS")


def test_random_numbers_differ_between_forked_ranks_where_they_do_between_new_processes(started):
    first, second = started("forked"), started("forked")
    for name in ("random.random()", "numpy.random.rand()", "torch.initial_seed()", "torch.rand(1).item()"):
        draw = f"__import__('{name.partition('.')[0]}').{name.partition('.')[2]}"
        assert ask(first, draw) != ask(second, draw)


def test_a_forked_rank_sets_its_threads_and_computes_on_them(started):
    process = started("forked")
    count = "[sys.modules['torch'].set_num_threads(2), sys.modules['torch'].get_num_threads()][1]"
    assert ask(process, count) == 2
    assert ask(process, "float((sys.modules['torch'].ones(2000, 2000) @ sys.modules['torch'].ones(2000, 2000)).sum())") == 8e9
    assert ask(process, "__import__('gc').isenabled()")


@pytest.mark.parametrize(
    "expression, code",
    [
        ("os._exit(3)", 3),
        ("sys.exit(4)", 4),
        ("sys.exit()", 0),
        ("no_such_name", 1),
        ("os.abort()", -signal.SIGABRT),
        ("os.kill(os.getpid(), 9)", -signal.SIGKILL),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_how_a_rank_ended_is_known(started, kind, expression, code):
    process = started(kind)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.stdin.write(expression.encode() + b"\n")
    assert process.wait(10) == process.poll() == code
    process.kill()
    said = process.stdout.read()
    assert (b"NameError" in said) == (expression == "no_such_name")


def test_the_template_ends_as_it_is_stopped(bare):
    bare.prepare(go_on)
    template = bare._template.process.pid
    bare.stop()
    bare.stop()
    assert ends(template, 0) and bare._template is None


def test_a_template_that_was_killed_is_replaced_and_its_ranks_go_on(bare, caplog):
    bare.prepare(go_on)
    first, killed = bare.start(PROBE), bare._template.process
    killed.kill()
    killed.wait()
    plain = bare.start(PROBE)
    assert isinstance(plain, subprocess.Popen), "nobody had seen yet that it is gone"
    assert "gone or does not answer" in caplog.text
    assert ask(first, "1") == ask(plain, "1") == 1 and first.poll() is None
    bare.prepare(go_on)
    second = bare.start(PROBE)
    assert isinstance(second, forked.Forked) and ask(second, "2") == 2
    first.kill()
    assert first.wait(10) == -signal.SIGKILL, "nobody is left to say how it ended"
    for process in (first, plain, second):
        finish(process)


def test_a_template_that_is_suspended_holds_nobody_up(bare, monkeypatch):
    monkeypatch.setattr(forked, "ANSWER_SECONDS", 0.2)
    bare.prepare(go_on)
    template = bare._template.process
    template.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    process = bare.start(PROBE)
    assert time.monotonic() - began < 3
    assert isinstance(process, subprocess.Popen) and ask(process, "1") == 1
    assert template.poll() == -signal.SIGKILL
    finish(process)


def test_a_suspended_template_is_waited_for_once_for_all_of_its_ranks(bare, monkeypatch):
    bare.prepare(go_on)
    ranks = [bare.start(PROBE) for _ in range(3)]
    for rank in ranks:
        assert ask(rank, "1") == 1
    template = bare._template.process
    template.send_signal(signal.SIGSTOP)
    for rank in ranks:
        rank._status.settimeout(0.2)
        rank.kill()
    assert [rank.wait(10) for rank in ranks] == [-signal.SIGKILL] * 3
    assert template.wait(10) == -signal.SIGKILL, "the first that had no answer has ended it"
    for rank in ranks:
        finish(rank)


def test_a_process_can_be_killed_while_somebody_waits_for_it(started):
    process, codes = started("forked"), []
    waiting = threading.Thread(target=lambda: codes.append(process.wait()))
    waiting.start()
    process.kill()
    waiting.join(10)
    assert codes == [-signal.SIGKILL]


@pytest.mark.parametrize("opened, can", [("/dev/null", False), ("/dev/zero", True)])
def test_a_process_that_has_opened_a_gpu_is_not_forked(opened, can):
    """Packages for attention ask for the GPU as they are imported; torch then refuses to use one in a child."""
    code = "from parallel.rank import template; template.GPU_DEVICES = ('/dev/nu',); device = open({!r}); print(template.can_fork())"
    words = [sys.executable, "-c", code.format(opened)]
    done = subprocess.run(words, cwd=ROOT, stdin=subprocess.PIPE, capture_output=True, text=True, check=True)
    assert done.stdout == f"{can}\n"


@pytest.mark.parametrize("module", ["no_such_package", "tests.makes_a_thread"])
def test_without_a_template_that_can_fork_ranks_are_plain_processes(bare, monkeypatch, caplog, module):
    monkeypatch.setattr(launchers, "PRELOADED", (module,))
    bare.prepare(go_on)
    process = bare.start(PROBE)
    assert isinstance(process, subprocess.Popen) and ask(process, "1") == 1
    assert bare._template is None and "no process to fork ranks from" in caplog.text
    monkeypatch.setattr(launchers, "Template", None)
    bare.prepare(go_on)  # it is not tried again
    finish(process)


def test_a_stop_is_heard_while_the_template_imports():
    launcher = Forking()
    with pytest.raises(Stopped, match="stopped while the ranks started"):
        launcher.prepare(lambda: True)
    template = launcher._template.process.pid
    launcher.stop()
    assert ends(template, 0)


def test_no_descriptor_is_left_of_processes_that_were_forked(bare):
    before = files("self")
    for _ in range(2):
        bare.prepare(go_on)
        for process in [bare.start(PROBE) for _ in range(3)]:
            finish(process)
        bare.stop()
    assert files("self") == before


HOST = """
import sys
from parallel.pool import Pool, forked, launchers
launcher = getattr(launchers, sys.argv[1])()
pool = Pool(("cpu",) * int(sys.argv[3]), threads=1, launcher=launcher)
if sys.argv[2] == "imports":
    print(flush=True)
    pool.start()
pool.start()
print(*pool.process_ids, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind, moment, ranks", [("plain", "ready", 1), ("forked", "ready", 2), ("forked", "imports", 2)])
def test_whatever_a_killed_host_had_started_is_gone_within_a_fifth_of_a_second(kind, moment, ranks):
    words = [sys.executable, "-c", HOST, KINDS[kind].__name__, moment, str(ranks)]
    host = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        pids = [int(pid) for pid in host.stdout.readline().split()]
        if moment == "ready":
            pids += templates(host.pid)
        while not pids:  # there is no event to wait for: it is another process's child
            assert not ends_within(host, POLL_SECONDS)
            pids = children(host.pid)
        assert len(pids) == {"ready": ranks + (kind == "forked"), "imports": len(pids)}[moment]
        if moment == "imports":
            while not imports(pids[0]):
                assert not ends_within(host, POLL_SECONDS)
        descriptors = [os.pidfd_open(pid) for pid in pids]
        host.kill()
        host.wait()  # the system first takes back a gigabyte of its memory
        began = time.monotonic()
        assert seconds_until_gone(descriptors, began) < 0.2
        for descriptor in descriptors:
            os.close(descriptor)
    finally:
        host.kill()
        host.communicate()


def imports(template: int) -> bool:
    """Say whether a template has mapped torch's library. (Before it runs at all, it has the maps of its host.)"""
    return called(template, launchers.TEMPLATE) and "libtorch" in Path(f"/proc/{template}/maps").read_text()


def test_a_pool_whose_template_and_rank_are_killed_makes_the_video(tiny, pools, one_template):
    work, told, killed = job(tiny, num_inference_steps=8), [], []
    wanted = pools(2).run(work)
    with Pool(("cpu",) * 2, threads=1) as pool:

        def kill(step, _):
            if step.phase == "denoise" and step.step == 3 and not killed:
                killed.extend([one_template._template.process.pid, pool.process_ids[1]])
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)

        got = pool.run(work, on_step=kill, on_notice=told.append)
    assert one_template._template.process.pid not in killed, "a new one"
    assert got.restarts == 1 and "rank 1 on cpu" in told[0]
    assert (got.latents - wanted.latents).abs().max() < 1e-4


def test_a_pool_that_restarts_forks_from_the_same_template_and_ends_it_with_itself():
    with Pool(("cpu",), threads=1, launcher=Forking()) as pool:
        before = set(templates(os.getpid()))
        pool.start()
        (template,) = set(templates(os.getpid())) - before
        first = pool.process_ids
        assert children(template) == list(first)
        os.kill(first[0], signal.SIGKILL)
        assert ends(first[0])
        pool.start()
        assert children(template) == list(pool.process_ids) != list(first)
    assert ends(template, 0) and set(templates(os.getpid())) == before


def test_from_several_threads_a_process_ends_once(started):
    process, codes = started("forked"), []
    threads = [threading.Thread(target=lambda: codes.append(process.wait(10))) for _ in range(4)]
    for thread in threads:
        thread.start()
    process.stdin.write(b"os._exit(5)\n")
    for thread in threads:
        thread.join()
    assert codes == [5] * 4
