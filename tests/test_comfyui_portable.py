"""The pack in a ComfyUI whose interpreter has a fixed path, as in ComfyUI's Windows portable."""

import json
import subprocess
import sys

import pytest

from tests import fixed_path
from tests.comfyui import Server, find_comfyui
from tests.test_comfyui import saved, short

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="only Python 3.11 and newer reads a ._pth file on Linux")


def test_a_template_runs_under_an_interpreter_with_a_fixed_path(tmp_path):
    python = fixed_path.make(tmp_path / "python", find_comfyui())
    asked = "import json, sys; print(json.dumps([sys.flags.isolated, sys.path[0]]))"
    done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [1, str(find_comfyui())], "or the path is not fixed"
    server = Server(tmp_path / "comfyui", python)
    try:
        server.wait_until_up()
        seen = server.run(short("prompt_timeline"))
        assert seen.end == "execution_success", seen.detail
        assert len(server.ranks()) == 2
        assert saved(server, "prompt_timeline").shape == (12, 64, 64, 3)
    finally:
        server.stop()
