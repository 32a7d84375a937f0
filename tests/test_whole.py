"""Files appear whole or not at all, under names of our own; what is finished is kept; what can't be written is refused before."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from harness.places import ROOT
from parallel.job.errors import JobRefused
from parallel.pool import whole


def write(path: Path) -> None:
    with whole.whole(path) as part:
        part.write_text("new")


def write_folder(path: Path) -> None:
    with whole.whole(path) as part:
        part.mkdir()
        (part / "0.png").write_text("new")


@pytest.mark.parametrize("name", ["clips", "clips.mp4"])
def test_what_somebody_has_beside_it_stays(tmp_path, name):
    """Names that a temporary file might have had, and one that looks like ours and is not."""
    for folder in ("clips.part", "clips.part.mp4", ".video-infinity-mine"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "precious").write_text("a year's work")
    before = {file: file.read_text() for file in tmp_path.rglob("precious")}
    whole.check_file(tmp_path / name)
    (write if "." in name else write_folder)(tmp_path / name)
    assert {file: file.read_text() for file in tmp_path.rglob("precious")} == before and len(before) == 3


def test_what_a_killed_run_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    killed = "import os, sys, pathlib, parallel.pool.whole as w\nwith w.whole(pathlib.Path(sys.argv[1])) as part:\n  part.mkdir(); os._exit(9)"
    done = subprocess.run([sys.executable, "-c", killed, tmp_path / "clips"], cwd=ROOT)
    assert done.returncode == 9
    left = list(tmp_path.iterdir())
    assert len(left) == 1 and left[0].name.startswith(whole.PREFIX)
    with whole.whole(tmp_path / "a") as part:
        part.write_text("half")
        assert not left[0].exists()
        write(tmp_path / "b")
        part.write_text("all")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a": "all", "b": "new"}


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize("refuses", ["folders", "all"])
def test_a_mount_that_refuses_fsync_keeps_what_is_finished(tmp_path, monkeypatch, number, refuses):
    fsync = os.fsync

    def refuse(descriptor):
        if refuses == "all" or stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    write_folder(tmp_path / "clips")
    write(tmp_path / "l.latent")
    assert (tmp_path / "clips" / "0.png").read_text() == (tmp_path / "l.latent").read_text() == "new"


def test_bytes_that_are_lost_are_no_finished_file(tmp_path, monkeypatch):
    (tmp_path / "v.mp4").write_text("old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "v.mp4")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"v.mp4": "old"}


def test_what_can_not_take_its_name_is_kept_in_plain_sight(tmp_path):
    """As when another run has filled the output folder meanwhile."""
    with pytest.raises(OSError, match="it is whole in ") as failed, whole.whole(tmp_path / "clips") as part:
        part.mkdir()
        (part / "0.png").write_text("new")
        write_folder(tmp_path / "clips")
    kept = Path(str(failed.value).split("it is whole in ")[1])
    assert kept.parent.parent == tmp_path and not kept.parent.name.startswith(".")
    write(tmp_path / "later")
    assert (kept / "0.png").read_text() == "new", "and no later run takes it for a leftover"


def test_what_is_written_is_alone_in_its_folder_where_there_are_no_locks(tmp_path, monkeypatch):
    """On Windows, which would not let a finished file be kept elsewhere while another one in its folder is open."""
    monkeypatch.setattr(whole, "fcntl", None)
    with whole.whole(tmp_path / "video.mp4") as part:
        part.write_text("new")
        assert list(part.parent.iterdir()) == [part]
    assert os.listdir(tmp_path) == ["video.mp4"]


@pytest.mark.parametrize("length", [250, 251, 255])
def test_the_longest_names_are_written(tmp_path, length):
    name = "x" * (length - 4) + ".mp4"
    whole.check_file(tmp_path / name)
    write(tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_what_can_not_be_written_is_refused_before_the_run(tmp_path, monkeypatch):
    def said(path: Path) -> str:
        with pytest.raises(JobRefused) as refused:
            whole.check_file(path)
        return str(refused.value).replace(str(tmp_path), "")

    assert said(tmp_path / ("x" * 256)).endswith("can't be written (File name too long): give it another name")
    assert said(tmp_path) == "output  is a folder: give the name of a file in it"
    assert said(tmp_path / "no" / "v") == "output folder /no does not exist: make it first"
    (tmp_path / "file").write_text("old")
    assert said(tmp_path / "file" / "v") == "output folder /file does not exist: make it first"
    assert said(Path("/dev/null")) == "output /dev/null is a device or a pipe: give the name of a file"
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    os.mkfifo(tmp_path / "pipe")
    assert said(tmp_path / "pipe") == "output /pipe is a device or a pipe: give the name of a file"
    monkeypatch.setattr(os, "access", lambda file, mode: False)  # the tests may run as root, who may all
    assert said(tmp_path / "file") == "output /file is there and can't be written: remove it, or give another name"
    monkeypatch.undo()
    tmp_path.chmod(0o1777)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert said(tmp_path / "file") == "output /file is there and is somebody else's: give it another name"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "pipe"]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "film").mkdir()
    for name in ("v.mp4", "clips"):
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    (tmp_path / "disk" / "clips").mkdir()
    write(tmp_path / "v.mp4")
    write_folder(tmp_path / "clips")
    assert (tmp_path / "v.mp4").is_symlink() and (tmp_path / "disk" / "v.mp4").read_text() == "new"
    assert (tmp_path / "clips").is_symlink() and (tmp_path / "disk" / "clips" / "0.png").read_text() == "new"
