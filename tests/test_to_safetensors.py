"""The converter makes a folder that runs out of pickled weights, and never runs what a pickle says."""

import os
import pickle
import shutil

import pytest
import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from safetensors.torch import load_file

from parallel.families import folder, weight_files
from parallel.job.errors import JobRefused
from parallel.sampler import load
from scripts import to_safetensors


@pytest.fixture
def pickled(tiny, tmp_path):
    """The tiny model as it was published before there were safetensors: one part in shards, one of a variant."""
    copy = shutil.copytree(tiny, tmp_path / "pickled")
    for part, kind, form in (
        ("unet", UNet3DConditionModel, {"max_shard_size": "3MB"}),
        ("vae", AutoencoderKL, {"variant": "fp16"}),
    ):
        module = kind.from_pretrained(copy / part)
        (copy / part / "diffusion_pytorch_model.safetensors").unlink()
        module.save_pretrained(copy / part, safe_serialization=False, **form)
    file = copy / "text_encoder" / "model.safetensors"
    torch.save(load_file(file), file.with_name("pytorch_model.bin"))
    file.unlink()
    return copy


def test_a_converted_folder_is_the_same_model(tiny, pickled, tmp_path, monkeypatch):
    with pytest.raises(
        JobRefused, match=r"has only pickled weights, .*: convert them with `python -m scripts\.to_safetensors`"
    ):
        folder.inspect(str(pickled))
    monkeypatch.setattr("sys.argv", ["to_safetensors", str(pickled), str(tmp_path / "safe")])
    to_safetensors.main()
    got, wanted = (load.load(folder.inspect(str(place)), torch.float32) for place in (tmp_path / "safe", tiny))
    for part in ("unet", "vae", "text_encoder"):
        held = getattr(got, part).state_dict()
        assert all(torch.equal(held[name], weight) for name, weight in getattr(wanted, part).state_dict().items())
    assert not [file for file in (tmp_path / "safe").rglob("*") if file.suffix in weight_files.PICKLES]


class Evil:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("form", ["torch's", "plain"])
def test_a_pickle_that_would_run_code_does_not_and_leaves_nothing(pickled, tmp_path, form, monkeypatch):
    trace, bad = tmp_path / "trace", pickled / "text_encoder" / "pytorch_model.bin"
    if form == "plain":
        bad.write_bytes(pickle.dumps({"weight": Evil(trace)}, protocol=2))  # of any other torch warns, an error in tests
    else:
        torch.save({"weight": Evil(trace)}, bad)
    monkeypatch.setattr("sys.argv", ["to_safetensors", str(pickled), str(tmp_path / "safe")])
    with pytest.raises(SystemExit, match=f"error: {bad} was not opened, it holds more than weights"):
        to_safetensors.main()
    assert not trace.exists() and sorted(path.name for path in tmp_path.iterdir()) == ["pickled"]


def test_what_is_no_such_folder_is_said_in_a_line(pickled, tmp_path):
    with pytest.raises(ValueError, match="is there already: give another name"):
        to_safetensors.convert(pickled, tmp_path)
    (pickled / "text_encoder" / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match="run `git lfs pull`"):
        to_safetensors.convert(pickled, tmp_path / "safe")
