"""The pack works from a folder of any name, as people clone it into ComfyUI's custom_nodes."""

import os
import shutil
import subprocess
import sys

from harness.places import ROOT


def test_the_tests_pass_from_a_folder_whose_name_is_no_identifier(tmp_path):
    name = "ComfyUI-VideoInfinity pack.v1"
    parts = ("__init__.py", "parallel", "nodes", "harness", "tests", "pyproject.toml")
    clone = tmp_path / name
    clone.mkdir()
    for part in parts:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, clone / part)
    few = [
        "tests/test_clips.py",
        "tests/test_launchers.py::test_a_rank_has_the_environment_that_the_host_has_as_it_starts",
    ]
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", *few]  # conftest.py imports what these have no use for
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert sorted(path.name for path in clone.iterdir()) == sorted(parts)
