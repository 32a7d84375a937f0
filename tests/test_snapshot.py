"""Snapshots in memory and on disk: whole or not taken, and refused when they are not what they say."""

import json
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from harness.jobs import job
from parallel.job.errors import JobRefused, Stopped
from parallel.pool import snapshot_file
from parallel.pool.snapshot_file import Keeper, Stored
from parallel.wire.snapshot import Snapshot, shapes

FRAMES = 6


def empty(history: int = 1) -> Snapshot:
    planes, marks = shapes((2, FRAMES, 3, 3), history)
    return Snapshot(torch.zeros(planes), torch.zeros(marks, dtype=torch.int64))


def clip_of(step: int, clip: range) -> list[torch.Tensor]:
    return [torch.full((1, 2, len(clip), 3, 3), float(step * 10 + part)) for part in range(2)]


def test_a_step_counts_when_every_frame_is_kept():
    kept, clips = empty(), (range(0, 2), range(2, 6))
    assert kept.whole() == 0
    for step in (1, 2, 3):
        kept.write_clip(step, clips[0], clip_of(step, clips[0]))
        assert kept.whole() == step - 1, "half of it is not it"
        kept.write_clip(step, clips[1], clip_of(step, clips[1]))
        assert kept.whole() == step
    kept.write_clip(4, clips[1], clip_of(4, clips[1]))
    latents, history = kept.read_clip(3, range(1, 5))
    assert latents.shape == (1, 2, 4, 3, 3) and set(latents.unique().tolist()) == {30.0} and history.unique() == 31.0
    assert kept.copy()[0] == 3


def test_frames_that_are_decoded_are_not_decoded_again():
    kept = empty()
    kept.mark_decoded([1, 2])
    assert kept.missing(range(0, 4)) == [0, 3]


@pytest.fixture(scope="module")
def stored(tiny, pools, tmp_path_factory):
    """A file that a stopped run left, and the run's job."""
    file, work = tmp_path_factory.mktemp("snapshot") / "kept.safetensors", job(tiny, num_inference_steps=6, scheduler="uni_pc")
    seen = []
    with pytest.raises(Stopped):
        stop = lambda: any(step.phase == "denoise" and step.step >= 3 for step in seen)  # noqa: E731
        pools(1).run(work, keeper=Keeper(file, work, 3600), on_step=lambda step, _: seen.append(step), should_stop=stop)
    return file, work


def test_a_run_goes_on_from_a_file_on_other_ranks(stored, pools):
    file, work = stored
    kept = snapshot_file.load(file)
    assert kept.job == work and 3 <= kept.step < 6
    steps = []
    got = pools(3).run(kept.job, stored=kept, on_step=lambda step, _: steps.append((step.phase, step.step)))
    assert ("denoise", kept.step) in steps and ("denoise", kept.step - 1) not in steps
    assert (got.latents - pools(3).run(work).latents).abs().max() < 1e-4


def test_a_file_is_written_when_it_is_time_and_not_twice(tmp_path, tiny):
    kept, file = empty(), tmp_path / "kept.safetensors"
    keeper = Keeper(file, job(tiny), seconds=0)
    keeper.write_if_due(kept)
    assert not file.exists(), "nothing is whole yet"
    kept.write_clip(1, range(FRAMES), clip_of(1, range(FRAMES)))
    keeper.write_if_due(kept)
    before = file.stat().st_mtime_ns
    keeper.write_if_due(kept)
    assert file.stat().st_mtime_ns == before
    keeper.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_is_read_from_another_folder(tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(tiny.parent)
    planes, marks = shapes((4, 9, 8, 8), 0)
    kept = Snapshot(torch.zeros(planes), torch.zeros(marks, dtype=torch.int64))
    kept.write_video(1, torch.rand(1, 4, 9, 8, 8))
    keeper = Keeper(tmp_path / "snapshot", job(tiny).model_copy(update={"model": tiny.name}), seconds=0)
    keeper.write_if_due(kept)
    monkeypatch.chdir(tmp_path)
    assert snapshot_file.load(tmp_path / "snapshot").job.model == str(tiny)


def test_a_disk_that_is_full_costs_the_snapshot_and_not_the_video(tiny, tmp_path, pools, caplog):
    file = tmp_path / "gone" / "kept.safetensors"
    work = job(tiny)
    assert torch.isfinite(pools(1).run(work, keeper=Keeper(file, work, 0)).latents).all()
    assert "could not be written" in caplog.text


def rewritten(file, tmp_path, *, planes=None, **said):
    """Return a copy of a snapshot with something else in it."""
    kept = snapshot_file.load(file)
    metadata = {"format": snapshot_file.FORMAT, "job": kept.job.model_dump_json(), "step": str(kept.step), **said}
    other = tmp_path / "other.safetensors"
    save_file({"planes": kept.planes if planes is None else planes}, other, metadata=metadata)
    return other


@pytest.mark.parametrize(
    "change, said",
    [
        ({"format": "x"}, "is broken (it is another kind of file)"),
        ({"step": "0"}, "is broken (it is from step 0 of 6)"),
        ({"step": "7"}, "is broken (it is from step 7 of 6)"),
        ({"step": "x"}, "is broken (invalid literal for int()"),
        ({"job": "{}"}, "is broken ("),
        ({"planes": torch.zeros(2)}, "of F32, got (2,) of F32)"),
        ({"planes": torch.zeros(4, 4, 9, 8, 8, dtype=torch.float16)}, "of F16)"),
        ({"planes": torch.full((4, 4, 9, 8, 8), float("nan"))}, "is broken (it holds numbers that are not finite)"),
    ],
)
def test_a_snapshot_that_is_not_what_it_says_is_refused(stored, tmp_path, change, said):
    with pytest.raises(JobRefused) as refused:
        snapshot_file.load(rewritten(stored[0], tmp_path, **change))
    assert said in str(refused.value) and str(refused.value).endswith("start the video again without --resume")


def test_a_snapshot_that_is_cut_short_or_claims_a_huge_header_is_refused(stored, tmp_path):
    data = stored[0].read_bytes()
    for number, broken in enumerate((data[:-1], data[:100], b"", b"\0" * 8, struct.pack("<Q", 2**40) + data[8:])):
        file = tmp_path / f"{number}.safetensors"
        file.write_bytes(broken)
        with pytest.raises(JobRefused, match="is broken"):
            snapshot_file.load(file)
    with pytest.raises(JobRefused, match="can't be read"):
        snapshot_file.load(tmp_path / "none.safetensors")


@given(head=st.binary(max_size=200), tail=st.binary(max_size=50))
def test_garbage_is_no_snapshot(tmp_path_factory, head, tail):
    file = tmp_path_factory.getbasetemp() / "garbage.safetensors"
    for data in (head + tail, struct.pack("<Q", len(head)) + head + tail):
        file.write_bytes(data)
        with pytest.raises(JobRefused):
            snapshot_file.load(file)


def test_a_snapshot_is_written_whole_or_not_at_all(stored, tmp_path, monkeypatch):
    """As if the machine had gone down in the middle of it."""
    file, kept = tmp_path / "kept.safetensors", snapshot_file.load(stored[0])
    snapshot_file.save(file, kept)
    before = file.read_bytes()

    def half(tensors, path, metadata):
        path.write_bytes(before[:1000])
        raise OSError("no space left on device")

    monkeypatch.setattr(snapshot_file, "save_file", half)
    with pytest.raises(OSError, match="no space"):
        snapshot_file.save(file, Stored(kept.job, kept.step + 1, kept.planes))
    assert file.read_bytes() == before and json.loads(before[8 : 8 + int.from_bytes(before[:8], "little")])
    assert list(tmp_path.iterdir()) == [file]


def test_a_clip_that_was_written_over_in_part_is_of_no_step():
    """Else what a rank leaves that is killed in the middle of it would pass for whole."""
    planes, marks = (torch.zeros(shape) for shape in shapes((1, 6, 2, 2), 0))
    snapshot = Snapshot(planes, marks.long())
    for step in (1, 2):
        snapshot.write_clip(step, range(6), [torch.ones(1, 1, 6, 2, 2)])
    with pytest.raises(RuntimeError):
        snapshot.write_clip(3, range(6), [torch.ones(1, 1, 5, 2, 2)])
    assert (snapshot.marks[1] == 0).all() and snapshot.whole() == 2
