"""What installing the pack does to a ComfyUI: nothing that it did not have to."""

import json
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.comfyui import find_comfyui
from harness.places import ROOT


def test_installing_the_pack_changes_no_package_of_comfyui(tmp_path):
    """In an environment of what ComfyUI asks for, in the versions that are installed here.

    torch with what goes with it, and ComfyUI's own packages, are left out: they are large, and nothing of ours asks for them.
    """
    theirs = [line.split("#")[0].strip() for line in (find_comfyui() / "requirements.txt").read_text().splitlines()]
    there = installed_here([line for line in theirs if line and not line.startswith(("torch", "kornia", "spandrel", "comfy"))])
    assert len(there) > 30 and "diffusers" not in there
    python = environment_with(tmp_path, [(name, found.version, found.requires or []) for name, found in there.items()])
    installed = names(would_install(tmp_path, "-r", ROOT / "requirements.txt", python=python))
    assert "diffusers" in installed and "torch" not in installed
    assert installed.isdisjoint(there)


def installed_here(wanted: list[str]) -> dict[str, Distribution]:
    """Return by name the packages of this environment that some requirements, and the requirements of those, ask for."""
    found: dict[str, Distribution] = {}
    left = list(map(Requirement, wanted))
    while left:
        each = left.pop()
        name = canonicalize_name(each.name)
        if name not in found and (each.marker is None or each.marker.evaluate({"extra": ""})):
            found[name] = distribution(name)
            assert each.specifier.contains(found[name].version), f"{each}, and {found[name].version} is here"
            left += map(Requirement, found[name].requires or [])
    return found


def names(packages: list[dict]) -> set[str]:
    """Return the names of packages as pip compares them."""
    return {canonicalize_name(each["name"]) for each in packages}


def environment_with(folder: Path, packages: list[tuple[str, str, list[str]]]) -> Path:
    """Return the interpreter of an environment that says, by metadata alone, that it holds packages: name, version, needs."""
    venv.create(folder / "env", with_pip=False)
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    for name, version, needs in packages:
        said = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
        metadata = site / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text("\n".join(said) + "\n")
    return folder / "env" / "bin" / "python"


def would_install(folder: Path, *wanted, python: Path | str = sys.executable) -> list[dict]:
    """Return the metadata of what pip would install into an environment; nothing is installed."""
    report = folder / "report.json"
    words = [
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--dry-run",
        "--report",
        str(report),
        *map(str, wanted),
    ]
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return [item["metadata"] for item in json.loads(report.read_text())["install"]]


def test_the_pack_pins_nothing_that_comfyui_brings():
    """requirements.txt lands in people's ComfyUI: no torch, no upper bounds."""
    lines = [line.split("#")[0].strip() for line in Path(ROOT / "requirements.txt").read_text().splitlines()]
    names = [line for line in lines if line]
    assert not [line for line in names if line.startswith("torch")]
    assert not [line for line in names if any(mark in line for mark in ("==", "<", "~="))]


def test_an_older_transformers_that_is_there_stays(tmp_path):
    """In an environment of what an older ComfyUI has."""
    others = "numpy 1.26.4", "safetensors 0.8.0", "pydantic 2.9.0", "av 16.0.0", "pillow 11.0.0", "tqdm 4.67.0"
    there = [
        ("transformers", "4.50.3", ["huggingface-hub<1.0,>=0.26.0", "tokenizers<0.22,>=0.21"]),
        ("tokenizers", "0.21.0", ["huggingface-hub<1.0,>=0.16.4"]),
        ("huggingface-hub", "0.36.2", []),
        *[(*other.split(), []) for other in others],
    ]
    installed = names(would_install(tmp_path, "-r", ROOT / "requirements.txt", python=environment_with(tmp_path, there)))
    assert "diffusers" in installed
    assert installed.isdisjoint(name for name, *_ in there)
