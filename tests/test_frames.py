import os
import subprocess
import sys

import pytest
import torch

from parallel import frames
from parallel.errors import JobRefused


def test_another_process_writes_what_this_one_reads():
    with frames.Block((3, 4, 2), "float32") as block:
        assert torch.equal(block.tensor, torch.zeros(3, 4, 2))
        code = (
            "import sys; from parallel import frames; from parallel.protocol import BlockHandle\n"
            "frames.attach(BlockHandle.model_validate_json(sys.argv[1]))[1] = 7"
        )
        subprocess.run([sys.executable, "-c", code, block.handle.model_dump_json()], check=True)
    assert block.tensor[1].eq(7).all() and block.tensor[0].eq(0).all()


def test_the_tensor_outlives_the_block_and_no_file_is_left(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")  # what systems other than Linux have
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    block = frames.Block((2, 2), "uint8")
    frames.attach(block.handle)[0] = 9
    assert len(list(tmp_path.iterdir())) == 1
    block.close()
    block.close()
    assert block.tensor.tolist() == [[9, 9], [0, 0]]
    assert list(tmp_path.iterdir()) == []


def test_a_video_larger_than_any_memory_is_refused_in_words():
    with pytest.raises(JobRefused, match=r"^cannot reserve .* GiB for the video .*: ask for fewer frames$"):
        frames.Block((2**40, 2**20), "float32")
