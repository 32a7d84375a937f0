"""The shared workflows of released models in a real ComfyUI, on tiny files of the same names and forms: they run, and say what they want."""

import json
import re

import av
import pytest

from harness.places import ROOT
from tests.test_comfyui import FILE_WORKFLOWS, shipped

LOADER = "VideoInfinityLoadVideoModel"
ROW = r"\| `(\w+)` \| \[(.+)\]\((.+)\) \| (\w+) \|"
FILES = ("model", "model_low", "vae", "text_encoder")


def small(name: str) -> dict:
    """Return a shipped workflow in a size that suits a test; sizes that are those of something else stay."""
    prompt = shipped(name)
    least = {"width": 32, "height": 32, "frames": 13, "steps": 10 if "refine" in name else 2}
    for node in prompt.values():
        given = node["inputs"]
        given.update({widget: value for widget, value in least.items() if given.get(widget)})
        given.update({"devices": "cpu,cpu"} if "devices" in given else {})  # as `auto` is on CPUs: ranks that are warm
        for widget in ("timeline", "at"):
            given.update({widget: given[widget].replace("5s", "0.5s")} if widget in given else {})
    return prompt


def test_a_file_that_is_not_there_is_said_on_the_loader(server):
    """First in this file: the fixture `released` puts them there for the others."""
    status, answer = server.post("/prompt", {"prompt": small("wan22_text_to_long_video")})
    said = json.dumps(answer["node_errors"]["model"])
    assert status == 400 and "is not in ComfyUI's folders" in said
    assert "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors" in said


@pytest.mark.parametrize("workflow", FILE_WORKFLOWS)
def test_a_workflow_of_files_makes_a_video_of_them(server, released, workflow):
    seen = server.run(small(workflow))
    assert seen.end == "execution_success", seen.detail
    file = seen.outputs["save"]["images"][0]
    side = 48 if "refine" in workflow else 32
    with av.open(server.base / "output" / file["subfolder"] / file["filename"]) as video:
        sizes = [(frame.width, frame.height) for frame in video.decode(video=0)]
    assert sizes == [(side, side)] * 13


@pytest.mark.parametrize("workflow", FILE_WORKFLOWS)
def test_the_editor_is_told_where_each_file_is_had_and_so_are_people(workflow):
    nodes = json.loads((ROOT / "workflows" / f"{workflow}.json").read_text())["nodes"]
    (loader,) = [node for node in nodes if node["type"] == LOADER]
    told = {file["name"]: file for file in loader["properties"]["models"]}
    chosen = shipped(workflow)["model"]["inputs"]
    assert set(told) == {chosen[widget] for widget in FILES}
    notes = "\n".join(node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote")
    rows = {widget: row for *row, widget in re.findall(ROW, notes)}
    assert rows == {
        widget: [told[chosen[widget]]["directory"], chosen[widget], told[chosen[widget]]["url"]] for widget in FILES
    }
    readme = (ROOT / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in told)
