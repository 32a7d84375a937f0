"""The pack in a ComfyUI whose interpreter has a fixed path, as in ComfyUI's Windows portable: that of all tests, where it can be."""

import json
import subprocess

import pytest

from harness.comfyui import find_comfyui
from tests import fixed_path
from tests.test_comfyui import saved, short


@pytest.mark.skipif(not fixed_path.can_be_made(), reason="Python before 3.11 reads no ._pth file on Linux")
def test_a_template_runs_under_an_interpreter_with_a_fixed_path(server):
    asked = "import json, sys; print(json.dumps([sys.flags.isolated, sys.path[0]]))"
    done = subprocess.run([server.python, "-c", asked], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [1, str(find_comfyui())], "or the path is not fixed"
    seen = server.run(short("prompt_timeline"))
    assert seen.end == "execution_success", seen.detail
    assert saved(server, "prompt_timeline").shape == (12, 64, 64, 3)
    assert len(server.ranks()) == 2
