"""The pack in a ComfyUI whose interpreter has a fixed path, as in ComfyUI's Windows portable; and what is left when it is killed."""

import json
import subprocess
import sys

import pytest

from harness.comfyui import Server, find_comfyui
from harness.processes import ends
from tests import fixed_path
from tests.test_comfyui import saved, short

PYTHON = "fixed" if sys.version_info >= (3, 11) else "plain"  # older ones read no ._pth file on Linux


@pytest.mark.parametrize("path", [PYTHON])
def test_a_template_runs_under_an_interpreter_with_a_fixed_path_and_a_killed_server_leaves_no_rank(tmp_path, path):
    """A server of its own for both, since it is lost."""
    python = fixed_path.make(tmp_path / "python", find_comfyui()) if path == "fixed" else sys.executable
    if path == "fixed":
        asked = "import json, sys; print(json.dumps([sys.flags.isolated, sys.path[0]]))"
        done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == [1, str(find_comfyui())], "or the path is not fixed"
    server = Server(tmp_path / "comfyui", python)
    try:
        server.wait_until_up()
        seen = server.run(short("prompt_timeline"))
        assert seen.end == "execution_success", seen.detail
        assert saved(server, "prompt_timeline").shape == (12, 64, 64, 3)
        ranks = server.ranks()
    finally:
        server.stop()
    assert len(ranks) == 2
    assert all(ends(pid, 5) for pid in ranks), "a rank outlived its server by 5 s"
