"""What installing and importing the pack does to a ComfyUI: nothing that it did not have to."""

import json
import subprocess
import sys
import venv
from pathlib import Path

from harness.comfyui import find_comfyui
from harness.places import ROOT
from tests.test_comfyui import NODES


def test_importing_the_pack_brings_in_neither_diffusers_nor_transformers():
    """What ComfyUI itself has imported by then does not count."""
    command = [sys.executable, str(ROOT / "harness" / "comfyui_import.py"), str(find_comfyui()), "--cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{len(NODES)} []"


def test_installing_the_pack_changes_no_package_of_comfyui(tmp_path):
    """A dry run of pip. torch and what goes with it are left out: they are large, and nothing of ours asks for them."""
    theirs = (find_comfyui() / "requirements.txt").read_text().splitlines()
    light = tmp_path / "comfyui.txt"
    light.write_text("\n".join(line for line in theirs if not line.startswith(("torch", "kornia", "spandrel"))))
    alone, together = (would_install(tmp_path, light, *more) for more in ((), (ROOT / "requirements.txt",)))
    assert len(alone) > 40 and "diffusers" not in alone and "diffusers" in together
    assert {name: together[name] for name in alone} == alone
    assert "torch" not in together


def would_install(folder: Path, *files: Path) -> dict[str, str]:
    """Return the versions, by package, that pip would install into an empty environment."""
    report = folder / "report.json"
    options = ["--quiet", "--dry-run", "--ignore-installed", "--report", str(report)]
    listed = [word for file in files for word in ("-r", str(file))]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *listed], check=True, capture_output=True)
    return {item["metadata"]["name"]: item["metadata"]["version"] for item in json.loads(report.read_text())["install"]}


def test_the_pack_pins_nothing_that_comfyui_brings():
    """requirements.txt lands in people's ComfyUI: no torch, no upper bounds."""
    lines = [line.split("#")[0].strip() for line in Path(ROOT / "requirements.txt").read_text().splitlines()]
    names = [line for line in lines if line]
    assert not [line for line in names if line.startswith("torch")]
    assert not [line for line in names if any(mark in line for mark in ("==", "<", "~="))]


def test_an_older_transformers_that_is_there_stays(tmp_path):
    """pip is asked what it would do in an environment that says, by metadata alone, that it holds what an older ComfyUI has."""
    venv.create(tmp_path / "env", with_pip=False)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    there = {
        "transformers 4.50.3": ["huggingface-hub<1.0,>=0.26.0", "tokenizers<0.22,>=0.21"],
        "tokenizers 0.21.0": ["huggingface-hub<1.0,>=0.16.4"],
        "huggingface_hub 0.36.2": [],
        **{
            name: []
            for name in ("numpy 1.26.4", "safetensors 0.8.0", "pydantic 2.9.0", "av 16.0.0", "pillow 11.0.0", "tqdm 4.67.0")
        },
    }
    for package, needs in there.items():
        name, version = package.split()
        said = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
        metadata = site / f"{name}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text("\n".join(said) + "\n")
    report = tmp_path / "report.json"
    options = ["--quiet", "--dry-run", "--report", str(report), "-r", str(ROOT / "requirements.txt")]
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", *options], check=True, capture_output=True)
    installed = {item["metadata"]["name"] for item in json.loads(report.read_text())["install"]}
    assert "diffusers" in installed
    assert installed.isdisjoint(package.split()[0] for package in there)
