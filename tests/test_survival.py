"""Faults on real ranks: a lost one costs a step, never the video; one that fails is one clear error."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch

from harness import faulty_worker
from harness.jobs import job
from harness.processes import ends
from parallel.job.errors import Overflowed, RankFailed, RankLost, Stopped
from parallel.pool import Pool, listen
from parallel.pool.watch import Patience, Watch
from parallel.wire import channel as wire
from parallel.wire.messages import Done, Failed, RankReport, Ready, Step, Stop

SHORT = Patience(first=20, floor=2, factor=10)


@pytest.fixture
def faulty():
    """A function that lets the next ranks have one fault."""
    with ExitStack() as stack:
        yield lambda rank, point, kind: stack.enter_context(faulty_worker.faulty(rank, point, kind))


@pytest.fixture(scope="module")
def undisturbed(tiny, pools):
    work = job(tiny, num_inference_steps=8, scheduler="uni_pc")  # it remembers earlier steps
    return work, pools(3).run(work)


@pytest.mark.parametrize(
    "point, kind, rank",
    [("load", "SIGKILL", 2), ("middle step", "SIGKILL", 0), ("middle step", "SIGSTOP", 2), ("decode", "SIGKILL", 1)],
)
def test_a_lost_rank_costs_a_step_and_not_the_video(undisturbed, faulty, point, kind, rank):
    (work, wanted), told, steps = undisturbed, [], []
    faulty(rank, point, kind)
    with Pool(("cpu",) * 3, threads=1, patience=SHORT) as pool:
        got = pool.run(work, on_notice=told.append, on_step=lambda step, _: steps.append((step.phase, step.step)))
        assert len(pool.process_ids) == 2, "two are left"
    assert (got.latents - wanted.latents).abs().max() < 1e-4
    assert (got.frames - wanted.frames).abs().max() < 1e-4
    assert got.restarts == 1 and len(told) == 1
    assert f"rank {rank} on cpu" in told[0] and "going on from step" in told[0]
    if point == "middle step":  # it died as it was to say that step 4 is done, which it had kept
        assert "going on from step 4 on cpu,cpu" in told[0] or "going on from step 3 on cpu,cpu" in told[0]
        assert sum(step == ("denoise", 2) for step in steps) == 3, "no early step was made again"


@pytest.mark.parametrize(
    "kind, said",
    [
        (
            "exception",
            r"^rank 1 on cpu failed: RuntimeError: a layer broke: its traceback is in the log; if it comes again, report it$",
        ),
        (
            "out of memory",
            r"^rank 1 on cpu ran out of memory \(it tried to allocate 2.00 GiB\): use fewer or smaller frames, more",
        ),
    ],
)
def test_a_rank_that_fails_is_one_clear_error_at_once(tiny, faulty, caplog, kind, said):
    faulty(1, "first step", kind)
    with Pool(("cpu",) * 2, threads=1) as pool:
        with pytest.raises(RankFailed, match=said) as failed:
            pool.run(job(tiny))
        assert failed.value.rank == 1 and "Traceback" not in str(failed.value)
        assert "befall" in caplog.text, "the traceback is in the log"
        assert pool.process_ids == ()
        assert torch.isfinite(pool.run(job(tiny)).latents).all()


def test_a_rank_that_ends_itself_with_some_words_is_one_clear_error_at_once(tiny, faulty):
    faulty(0, "first step", "exit")
    with Pool(("cpu",), threads=1) as pool, pytest.raises(RankFailed) as failed:
        pool.run(job(tiny))
    said = "rank 0 on cpu ended, exit code 3: libexample: error: no room for a context (more of what it wrote is in the log)"
    assert str(failed.value) == said and "no room for a context" in failed.value.traceback


def test_too_many_losses_are_one_clear_error(tiny):
    with Pool(("cpu",) * 3, threads=1, restarts=1) as pool:

        def kill(step, latents):
            if step.phase == "denoise" and step.step == 1:
                for pid in pool.process_ids[-1:]:
                    os.kill(pid, signal.SIGKILL)

        with pytest.raises(
            RankFailed, match=r"exit code -9.*Given up after 1 restart \(see the log.*\): run it again"
        ) as failed:
            pool.run(job(tiny, num_inference_steps=50), on_step=kill)
        assert failed.value.rank == 1 and pool.process_ids == ()


def test_a_crash_in_a_job_and_one_in_the_next_start_are_two_losses_and_not_the_end(tiny, monkeypatch):
    lost, done = [RankLost("rank 0 crashed", rank=None, reason="exit code -6") for _ in range(2)], []
    falls = iter([("work", lost[0]), ("start", lost[1]), ("work", None)])
    due = next(falls)

    def fall(point: str):
        nonlocal due
        if due[0] == point:
            error, due = due[1], next(falls, ("nowhere", None))
            if error is not None:
                raise error
        return done

    with Pool(("cpu",)) as pool:
        monkeypatch.setattr(pool, "start", lambda *_: fall("start"))
        monkeypatch.setattr(pool, "_work", lambda *_: fall("work"))
        pool.run(job(tiny))
    assert due[0] == "nowhere", "both were overcome"


def test_a_stop_while_a_rank_is_lost_is_a_stop(tiny):
    lost = []
    with Pool(("cpu",) * 2, threads=1) as pool:

        def kill(step, latents):
            if step.phase == "denoise" and step.step == 2 and not lost:
                lost.append(pool.process_ids[1])
                os.kill(lost[0], signal.SIGKILL)

        with pytest.raises(Stopped):
            pool.run(job(tiny, num_inference_steps=50), on_step=kill, should_stop=lambda: bool(lost))
        assert pool.process_ids == () and ends(lost[0])


def test_time_in_which_nobody_listened_is_not_a_ranks_silence(tiny):
    """As when a snapshot takes long to reach its disk: longer here than a rank may be silent."""
    slept = []

    def slow(step, latents):
        if step.phase == "denoise" and step.step == 3 and not slept:
            slept.append(threading.Event().wait(3))

    with Pool(("cpu",) * 2, threads=1, patience=Patience(first=60, floor=2, factor=1)) as pool:
        assert pool.run(job(tiny, num_inference_steps=5), on_step=slow).restarts == 0 and slept


def test_time_that_is_left_out_is_nobodys_silence(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("parallel.pool.watch.time.monotonic", lambda: now[0])
    watch = Watch(Patience())
    watch.begin(2)
    now[0] = 10.0
    watch.leave_out(4.0)
    assert watch.silence(0) == watch.silence(1) == watch.silence(0, 1) == 6.0


def test_what_a_rank_may_take_comes_from_its_own_steps(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("parallel.pool.watch.time.monotonic", lambda: now[0])
    watch = Watch(Patience(first=100, floor=3, factor=10))
    watch.begin(2)

    def say(rank, phase, step, at):
        now[0] = at
        watch.record(Step(number=1, rank=rank, phase=phase, step=step, steps=9))

    assert watch.bound(0) == 100
    say(0, "denoise", 0, 10)
    assert watch.bound(0) == 100 and watch.silence(1) == 10
    say(0, "denoise", 1, 12)
    assert watch.bound(0) == 20, "ten times a step"
    say(0, "denoise", 2, 12.1)
    assert watch.bound(0) == 20, "the longest one"
    say(0, "decode", 0, 13)
    assert watch.bound(0) == 100, "a phase of its own"
    say(0, "decode", 8, 13.01)
    assert watch.bound(0) == 3


def test_who_waits_for_others_is_not_judged_while_they_get_on(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("parallel.pool.watch.time.monotonic", lambda: now[0])
    watch = Watch(Patience(first=100, floor=3, factor=10))
    watch.begin(2)

    def say(rank, phase, step, steps, at):
        now[0] = at
        watch.record(Step(number=1, rank=rank, phase=phase, step=step, steps=steps))
        assert watch.stuck(range(2)) == []

    def stuck_at(seconds):
        now[0] = seconds
        return watch.stuck(range(2))

    say(0, "encode", 0, 2, at=1)
    say(0, "encode", 1, 2, at=1.1)
    say(0, "encode", 2, 2, at=1.2)
    assert stuck_at(99) == [] and stuck_at(101) == [1], "rank 1 loads: it alone is judged"
    say(1, "encode", 0, 2, at=99)
    assert stuck_at(150) == [], "it moves its model, which may take long"
    say(1, "encode", 1, 2, at=150)
    assert stuck_at(200) == [] and stuck_at(661) == [1], "ten times its own longest step"
    say(1, "encode", 2, 2, at=200)
    assert stuck_at(700) == [] and stuck_at(711) == [0, 1], "both have encoded: one of them hangs"
    say(1, "denoise", 0, 9, at=201)
    assert stuck_at(1000) != [1], "rank 0 may be the one"
    say(0, "denoise", 0, 9, at=202)
    for step in range(1, 9):
        say(1, "denoise", step, 9, at=202 + step)
    say(1, "decode", 0, 8, at=211)
    assert stuck_at(290) == [0], "rank 1 went on: it is not the one"


class Faked:
    """What `listen` sees of ranks that run, without any: a test speaks for them through `ends`."""

    def __init__(self, size: int, suspended: int | None = None):
        pairs = [multiprocessing.Pipe() for _ in range(size)]
        self.channels, self.ends = map(list, zip(*pairs))
        self.processes = [SimpleNamespace(poll=lambda: None)] * size
        self.devices = ("cpu",) * size
        self.is_suspended = lambda rank: rank == suspended
        self.name = lambda rank: f"rank {rank} on cpu"

    def say(self, rank: int, phase: str, step: int, steps: int) -> None:
        wire.send(self.ends[rank], Step(number=1, rank=rank, phase=phase, step=step, steps=steps))

    def listen(self, kind=Done, stop: bool = False):
        patience = Patience(first=0.4, floor=0.1, factor=1)
        return list(listen.listen(self, kind, number=1, patience=patience, should_stop=lambda: stop))


def test_the_rank_that_broke_is_blamed_and_not_one_that_lost_it():
    """Who lost a peer says so first: the one that broke has to write its traceback."""
    failed = {"number": 1, "traceback": ""}
    ranks = Faked(3)
    for victim in (0, 2):
        wire.send(ranks.ends[victim], Failed(rank=victim, fault="peer", message="could not go on: gone", **failed))
    told = threading.Timer(0.3, wire.send, [ranks.ends[1], Failed(rank=1, fault="crash", message="failed: a layer", **failed)])
    told.start()
    with pytest.raises(RankFailed, match=r"^rank 1 on cpu failed: a layer$") as error:
        ranks.listen()
    told.join()
    assert error.value.rank == 1


def test_of_ranks_that_meet_none_is_blamed():
    with pytest.raises(
        RankLost, match=r"^a rank is stuck, one of rank 0 on cpu and rank 1 on cpu, .*: did not meet in"
    ) as lost:
        Faked(2).listen(Ready)
    assert lost.value.rank is None
    with pytest.raises(RankLost, match=r"^rank 1 on cpu is suspended and said nothing") as lost:
        Faked(2, suspended=1).listen(Ready)
    assert lost.value.rank == 1
    ranks = Faked(3)
    for met in (0, 2):
        wire.send(ranks.ends[met], Ready(rank=met))
    with pytest.raises(RankLost, match=r"^rank 1 on cpu is stuck: did not meet in") as lost:
        ranks.listen(Ready)
    assert lost.value.rank == 1, "the others have heard from all"


def test_a_rank_that_has_encoded_is_not_blamed_for_one_that_has_not():
    ranks = Faked(2)
    for step in range(4):
        ranks.say(0, "encode", step, 3)
    ranks.say(1, "load", 0, 1)
    with pytest.raises(RankLost, match=r"^rank 1 on cpu is stuck: no step of `load` in") as lost:
        ranks.listen()
    assert lost.value.rank == 1


def test_a_stop_ends_ranks_that_load_and_waits_for_those_that_denoise(monkeypatch):
    monkeypatch.setattr(listen, "STOP_SECONDS", 0.1)
    loading = Faked(2)
    loading.say(0, "denoise", 0, 9)  # waits for the other
    with pytest.raises(Stopped, match=r"^stopped while the ranks loaded: they were ended"):
        loading.listen(stop=True)
    assert [wire.receive(end) for end in loading.ends] == [Stop(number=1)] * 2

    working = Faked(1)
    working.say(0, "denoise", 0, 9)

    def end_late() -> None:
        assert wire.receive(working.ends[0]) == Stop(number=1)
        assert not working.ends[0].poll(0.2)
        cost = RankReport(rank=0, seconds={}, waited_seconds=0, sent_bytes=0, messages=0, peak_memory_bytes=0)
        wire.send(working.ends[0], Done(number=1, rank=0, stopped=True, report=cost))

    with ThreadPoolExecutor() as threads:
        threads.submit(end_late)
        assert [done.stopped for done in working.listen(stop=True)] == [True]


@pytest.mark.parametrize(
    "fault, said, kind, rank",
    [
        ("overflow", "the numbers overflowed", Overflowed, None),
        ("out_of_step", "the ranks made 1 to 2 exchanges", RankFailed, None),
        ("memory", "rank 1 on cpu the numbers overflowed", RankFailed, 1),
    ],
)
def test_what_is_the_jobs_own_fault_blames_no_rank(fault, said, kind, rank):
    """And a rank that was gone before a message could be sent to it is asked for its last words."""
    words = Failed(number=1, rank=1, fault=fault, message=said.removeprefix("rank 1 on cpu "), traceback="T")
    for gone in (False, True):
        ranks = Faked(2)
        wire.send(ranks.ends[1], words)
        if gone:
            ranks.ends[1].close()
        with pytest.raises(RankFailed) as failed:
            listen.send(ranks, 1, Stop(number=1)) if gone else ranks.listen()
        assert (type(failed.value), str(failed.value), failed.value.rank) == (kind, said, rank)
