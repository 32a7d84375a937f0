"""What the registry's archive holds: all that a ComfyUI needs, and nothing else; and files that any tool can read."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.places import ROOT
from tests.test_import_flow import imports

MOST_BYTES = 1_500_000  # beside the weights of the bundled models
TOP = {
    "__init__.py",
    "nodes",
    "parallel",
    "workflows",
    "web",
    "locales",
    "assets",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "pyproject.toml",
    "requirements.txt",
    "scripts",
}
SCRIPTS = {"scripts/__init__.py", "scripts/to_safetensors.py"}  # what an error tells people to run


def tracked(*options: str) -> list[str]:
    """Return the files that git knows, as the registry's client asks for them; skip where this is no clone."""
    try:
        said = subprocess.run(["git", "ls-files", *options], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git, and the pack as a clone")
    return [line for line in said.stdout.splitlines() if (ROOT / line).is_file()]


@pytest.fixture(scope="module")
def archive() -> list[str]:
    """The files that `comfy node publish` packs: tracked by git and not named in .comfyignore, which is read as a .gitignore."""
    left_out = set(tracked("-ci", "--exclude-from=.comfyignore"))
    return [file for file in tracked() if file not in left_out]


def test_the_archive_holds_what_a_comfyui_needs_and_nothing_else(archive):
    assert {file.split("/")[0] for file in archive} == TOP
    for wanted in ("web/docs/VideoInfinityLongVideo.md", "locales/zh/nodeDefs.json", "assets/moving-shapes/model_index.json"):
        assert wanted in archive
    for folder in ("nodes", "parallel", "workflows", "web", "locales", "assets"):
        assert [file for file in tracked() if file.startswith(f"{folder}/") and file not in archive] == []
    assert {file for file in archive if file.startswith("scripts/")} == SCRIPTS
    assert sum((ROOT / file).stat().st_size for file in archive if not file.endswith(".safetensors")) < MOST_BYTES


def modules(place: Path) -> set[str]:
    """Return the files that a dotted name may mean: a module, or a name in one."""
    return {f"{each}{end}" for each in (place, place.parent) for end in (".py", "/__init__.py")}


def test_what_is_shipped_imports_nothing_that_is_not(archive):
    absent = {file.split("/")[0].removesuffix(".py") for file in tracked()} - {file.split("/")[0] for file in archive}
    for file in [file for file in archive if file.endswith(".py")]:
        for level, name in imports(ROOT / file):
            if level == 0:
                assert name.split(".")[0] not in absent, f"{file} imports {name}, which is not shipped"
            else:
                place = Path(file).parents[level - 1] / name.replace(".", "/")
                assert modules(place) & set(archive), f"{file} imports {name}, which is not shipped"


HOST = """
import sys
import parallel.cli.generate, parallel.plan, parallel.pool, parallel.__main__
from parallel.families import folder
print(folder.inspect("assets/moving-shapes").scale, [name for name in ("diffusers", "transformers") if name in sys.modules])
"""


def test_the_archives_files_alone_make_a_pack_whose_model_is_read_without_diffusers_and_transformers(archive, tmp_path):
    for file in archive:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    said = subprocess.run([sys.executable, "-c", HOST], cwd=tmp_path, capture_output=True, text=True)
    assert said.stdout.strip() == "8 []", said.stderr


def test_every_source_file_is_ascii():
    """Tools that read a file in their system's code page, cp1252 say, stop at any other byte."""
    for file in tracked():
        if file.endswith(".py"):
            odd = [line for line in (ROOT / file).read_text(encoding="utf-8").splitlines() if not line.isascii()]
            assert odd == [], f"{file}: escape what is not ASCII, as \\N{{...}} or \\u...."


def test_the_clone_line_can_be_pasted():
    project = (ROOT / "pyproject.toml").read_text()
    address = re.search(r'^Repository = "(.+)"', project, re.MULTILINE)
    assert address is not None and f"git clone {address[1]} " in (ROOT / "README.md").read_text()
