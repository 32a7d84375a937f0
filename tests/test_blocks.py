import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from parallel.job.errors import JobRefused
from parallel.wire import blocks


def test_another_process_writes_what_this_one_reads(ranks):
    with blocks.Block((3, 4, 2), "float32") as block:
        assert torch.equal(block.tensor, torch.zeros(3, 4, 2))
        ranks("write_row", 1, handle=block.handle.model_dump_json(), row=1, value=7)
    assert block.tensor[1].eq(7).all() and block.tensor[0].eq(0).all()


@pytest.fixture
def without_memfd(tmp_path, monkeypatch):
    """What systems other than Linux have: a block is a file, here in a folder of its own."""
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def windows(without_memfd, monkeypatch):
    """And what Windows does: it removes no file that a process has open or mapped. (One process's files here: this one's.)"""

    def unlink(file: Path, missing_ok: bool = False) -> None:
        opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        if str(file) in opened or str(file) in Path("/proc/self/maps").read_text():
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")
        os.remove(file)

    monkeypatch.setattr(Path, "unlink", unlink)
    return without_memfd


def test_the_tensor_outlives_the_block_and_no_file_is_left(without_memfd):
    block = blocks.Block((2, 2), "uint8")
    blocks.attach(block.handle)[0] = 9
    assert len(list(without_memfd.iterdir())) == 1
    block.close()
    block.close()
    assert block.tensor.tolist() == [[9, 9], [0, 0]]
    assert list(without_memfd.iterdir()) == []


def test_where_a_mapped_file_can_not_be_removed_it_goes_with_its_tensor(windows):
    with blocks.Block((2, 2), "uint8") as block:
        blocks.attach(block.handle)[0] = 9
    tensor = block.tensor
    assert tensor.tolist() == [[9, 9], [0, 0]] and len(list(windows.iterdir())) == 1
    del block
    assert len(list(windows.iterdir())) == 1, "a video that a node has handed on"
    del tensor
    assert list(windows.iterdir()) == []


def test_a_file_that_a_rank_had_longer_goes_when_next_a_block_is_made(windows, monkeypatch):
    block = blocks.Block((2, 2), "uint8")
    ranks_own = blocks.attach(block.handle)
    block.close()
    left = Path(block.handle.path)
    del block
    assert left.exists()
    monkeypatch.setattr(blocks, "_may_run", lambda pid: False)  # where nobody asks whether it runs: removing says it
    blocks.remove_leftovers()
    assert left.exists(), "in use"
    del ranks_own
    blocks.remove_leftovers()
    assert not left.exists()


def test_what_a_process_left_that_was_killed_is_removed_and_nothing_else(without_memfd):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = without_memfd / f"video-infinity-{ended.pid}-abc_12.block"
    names = (f"video-infinity-{os.getpid()}-abc_12.block", "video-infinity-holiday.block", "video-infinity-1-a.block.txt", "x")
    kept = {without_memfd / name for name in names}
    for file in (left, *kept):
        file.touch()
    with blocks.Block((2, 2), "uint8") as block:
        assert set(without_memfd.iterdir()) == kept | {Path(block.handle.path)}
    assert set(without_memfd.iterdir()) == kept


def test_a_container_may_leave_less_memory_than_the_machine_has(monkeypatch):
    all_there_is = blocks.free_bytes()
    monkeypatch.setattr(blocks.cgroup, "free_memory", lambda: 12345)
    assert blocks.free_bytes() == 12345 < all_there_is
    with pytest.raises(JobRefused, match=r"^the video wants 0.0 GiB of shared memory, 0.0 GiB are free"):
        blocks.check_room([(1, 64, 64, 3)])


def test_a_video_larger_than_any_memory_is_refused_in_words():
    with pytest.raises(JobRefused, match=r"^cannot reserve .* GiB for the video .*: ask for fewer frames$"):
        blocks.Block((2**40, 2**20), "float32")


def test_too_few_open_files_are_not_called_too_many_frames(monkeypatch):
    def none_left(name):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", none_left)
    with pytest.raises(JobRefused, match=r"Too many open files\): allow this process more open files \(ulimit -n\)$"):
        blocks.Block((2, 2), "uint8")
