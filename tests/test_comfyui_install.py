"""What installing and importing the pack does to a ComfyUI: nothing that it did not have to."""

import json
import subprocess
import sys
from pathlib import Path

from tests.comfyui import find_comfyui
from tests.conftest import ROOT
from tests.test_comfyui import NODES


def test_importing_the_pack_brings_in_neither_diffusers_nor_transformers():
    """What ComfyUI itself has imported by then does not count."""
    command = [sys.executable, str(ROOT / "tests" / "comfyui_import.py"), str(find_comfyui()), "--cpu"]
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
