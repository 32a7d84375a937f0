"""Each shared workflow in ComfyUI's own graph editor, in headless Chromium: opened, run, its result seen."""

import json
from itertools import combinations

import pytest
from PIL import Image

from harness.comfyui import PACK
from harness.places import ROOT
from tests.browser import Editor, needs_browser
from tests.test_comfyui import FILE_WORKFLOWS, NODES

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
ROOM = 290  # of what a running sampler says and shows
RESULT = {"plan_only": "PreviewImage"}  # the node that shows it; else SaveVideo


@pytest.fixture(scope="module")
def editor(server, released, tmp_path_factory):
    """The graph editor, which asks at its start which files there are."""
    needs_browser()
    window = Editor(server.port, tmp_path_factory.mktemp("chromium"))
    yield window
    window.close()


def overlap(a: list[float], b: list[float]) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_opens_without_a_warning_and_runs(editor, file):
    nodes = editor.open(json.loads(file.read_text()))
    assert [node["type"] for node in nodes if not node["known"] or node["errors"]] == []
    assert editor.warnings() == []
    pairs = [(a["type"], b["type"]) for a, b in combinations(nodes, 2) if overlap(a["box"], b["box"])]
    assert pairs == [], "nodes overlap"

    api = json.loads((ROOT / "workflows" / "api" / file.name).read_text())
    assert all(node["_meta"]["title"] for node in api.values()), "other clients find nodes by their titles"
    number = {name: str(place) for place, name in enumerate(api, start=1)}
    renamed = {
        number[name]: {
            "class_type": node["class_type"],
            "inputs": {k: [number[v[0]], v[1]] if isinstance(v, list) else v for k, v in node["inputs"].items()},
        }
        for name, node in api.items()
    }
    queued = {key: {part: node[part] for part in ("class_type", "inputs")} for key, node in editor.as_prompt().items()}
    assert queued == renamed, "the editor's format and the API format say the same"
    if file.stem in FILE_WORKFLOWS:
        return  # tests/test_comfyui_released.py runs what is queued, in a size that suits a CPU

    if file.stem != "plan_only":
        frames = 53 if file.stem == "wan_keyframes" else 12  # one of its pictures is frame 48, and not the last
        for widget, value in (("frames", frames), ("steps", 2), ("devices", "cpu,cpu")):
            editor.set(widget, value)
        editor.set("timeline", "0: a red circle orbiting clockwise on a gray background")
    editor.press_run()
    result = editor.wait(lambda: editor.shown(RESULT.get(file.stem, "SaveVideo")))
    assert result["images"], result
    assert editor.warnings() == []


def test_in_nodes_2_0_every_node_lies_in_its_group_with_room_for_what_it_shows(editor):
    """The nodes of Vue, which are taller than those on the canvas, and grow by a text and a preview when they run."""
    editor.use_nodes_2_0(True)
    try:
        for file in WORKFLOWS:
            editor.open(json.loads(file.read_text()))
            nodes = editor.wait(editor.nodes_on_the_page)
            outside = [
                (node, group)
                for node, (x, y, width, height) in nodes
                for group, (left, top, group_width, group_height) in editor.groups()
                if left <= x < left + group_width and top <= y < top + group_height
                if x + width > left + group_width or y + height + ROOM * ("Sampler" in node) > top + group_height
            ]
            assert outside == [], file.stem
            pairs = [(a, b) for (a, here), (b, there) in combinations(nodes, 2) if overlap(here, there)]
            assert pairs == [], f"{file.stem}: nodes overlap"
    finally:
        editor.use_nodes_2_0(False)


def test_the_newcomers_template_comes_first_by_name():
    assert WORKFLOWS[0].stem == "first_long_video"


def test_the_template_browser_shows_the_workflows_with_thumbnails(server):
    for file in WORKFLOWS:
        size, kind = server.head(f"/api/workflow_templates/{PACK}/{file.stem}.jpg")
        assert kind == "image/jpeg" and size > 1000
        with Image.open(file.with_suffix(".jpg")) as picture:
            assert picture.width == picture.height, f"{file.stem}: the template browser shows a square"


def test_help_pages_are_served_for_every_node(server):
    for node in NODES:
        size, _ = server.head(f"/extensions/{PACK}/docs/{node}.md")
        assert size > 200
