"""Hostile inputs (hostile.py) at their doors; those that reach a rank or a server are in other tests too."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness import hostile
from harness.jobs import job
from parallel.families.folder import inspect
from parallel.job import timeline
from parallel.job.errors import JobRefused
from parallel.job.job import Prompt
from parallel.pool import Pool
from parallel.pool.door import Door
from parallel.sampler import load
from parallel.wire import channel as wire
from parallel.wire.messages import Done, Failed, Hello, Step, Work, from_bytes, to_bytes


def fates(tries) -> dict[str, str]:
    return {name: fate for name, what in tries if (fate := hostile.attempt(what)) != "refused"}


def test_absurd_jobs_are_refused(tiny):
    assert fates(hostile.jobs(tiny)) == {}


def test_prompts_that_fit_into_no_message_are_refused(tiny):
    many = tuple(Prompt(frame=frame, text="x" * 10_000) for frame in range(101))
    with pytest.raises(JobRefused, match=r"prompts: wanted at most 1000000 characters in all: shorten them"):
        job(tiny, prompts=many, frames=200)


def test_timelines_that_are_none_are_refused():
    assert fates(hostile.timelines()) == {}


def test_model_folders_that_would_do_harm_are_refused(tiny, tmp_path):
    assert fates(hostile.model_folders(tiny, tmp_path)) == {}


def test_init_bombs_are_refused(tmp_path):
    (work := tmp_path / "init").mkdir()
    assert fates(hostile.init_videos(work)) == {}


def test_snapshots_that_lie_are_refused(tiny, tmp_path):
    assert fates(hostile.snapshots(tiny, tmp_path)) == {}


def test_command_lines_that_contradict_themselves_are_refused():
    assert fates(hostile.command_lines()) == {}


def test_strangers_keep_no_rank_out():
    """Silent ones never hang up; they are more than are greeted at once; then the ranks come."""
    door, key = Door(b"k" * 32, 2), b"k" * 32
    door.open()
    said = hostile.strangers()
    strangers = [hostile.call(door, words) for words in said.values()] + [hostile.call(door, None) for _ in range(100)]
    began = time.monotonic()
    channels = []
    for rank in (1, 0):
        channels.append(wire.connect(door.port, key))
        wire.send(channels[-1], Hello(rank=rank))
        assert door.arrived.get(timeout=5)[0] == rank
    assert time.monotonic() - began < 5 and door.arrived.empty()
    for each in (*channels, *strangers):
        each.close()
    door.close()


def test_a_caller_with_the_key_but_no_place_is_turned_away():
    door = Door(b"k", 1)
    door.open()
    for rank in (1, -1, 10**9):
        channel = wire.connect(door.port, b"k")
        wire.send(channel, Hello(rank=rank))
        with pytest.raises(EOFError):
            wire.receive(channel)
        channel.close()
    assert door.arrived.empty()
    door.close()


def test_the_store_listens_on_the_loopback_alone(tiny):
    with Pool(("cpu", "cpu"), threads=1) as pool:
        pool.start()
        port = pool._ranks._store.port
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        rows += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    listens = [row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port]
    assert listens == ["0100007F"]


def test_a_configuration_asks_for_no_more_than_its_files_hold(tiny, tmp_path):
    """Within the bounds at the door, yet 60 times as wide: refused before it is reserved."""
    copy = shutil.copytree(tiny, tmp_path / "wide")
    for part, said in {"vae": {"block_out_channels": [8192, 8192]}, "unet": {"block_out_channels": [8192, 16384]}}.items():
        file = copy / part / "config.json"
        before = file.read_text()
        file.write_text(json.dumps({**json.loads(before), **said}))
        with pytest.raises(JobRefused, match=r"config.json asks for \d+ numbers, its files hold \d+: get the folder again$"):
            load.load(inspect(str(copy)), torch.float32)
        file.write_text(before)


def test_a_video_that_does_not_fit_into_memory_is_refused(tiny):
    with pytest.raises(
        JobRefused, match=r"^the video wants [\d.]+ GiB of shared memory, [\d.]+ GiB are free: put frames into a file"
    ):
        Pool(("cpu",)).run(job(tiny, frames=1_000_000, height=1024, width=1024))


@given(st.text(max_size=300), st.floats(allow_nan=True), st.integers(-5, 10**6))
def test_a_timeline_parses_or_is_refused(text, fps, frames):
    try:
        prompts = timeline.parse(text, fps=fps, frames=frames)
    except JobRefused:
        return
    assert prompts[0].frame == 0 and all(0 <= prompt.frame < frames for prompt in prompts)


@given(st.from_regex(r"( *[0-9]{1,3}(\.[0-9]{1,2})?s? *: *[a-z]{1,5}\n){1,5}", fullmatch=True))
def test_a_timeline_of_the_form_parses_or_is_refused(text):
    try:
        prompts = timeline.parse(text, fps=8, frames=200)
    except JobRefused:
        return
    assert len(prompts) == len(text.splitlines())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
NAMES = sorted({name for form in (Work, Step, Done, Failed) for name in form.model_fields})


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_no_message(data):
    with pytest.raises(ValidationError):
        from_bytes(data)


@given(
    st.sampled_from(["work", "stop", "hello", "ready", "step", "done", "failed"]), st.dictionaries(st.sampled_from(NAMES), JSON)
)
def test_a_message_with_anything_in_it_is_one_or_none(kind, rest):
    try:
        message = from_bytes(json.dumps({**rest, "kind": kind}).encode())
    except ValidationError:
        return
    assert from_bytes(to_bytes(message)) == message
