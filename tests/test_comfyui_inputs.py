"""What comes into widgets in a real ComfyUI, typed or over a link: checked at the door, or when the node runs, in a sentence."""

import pytest

from harness.comfyui import Server
from scripts.draw_locale import input_list
from tests.graphs import node, subjects
from tests.test_comfyui import NODES

COUNT = "STRING,INT"  # the type of a widget for a number or `auto`
PRIMITIVES = {"INT": "PrimitiveInt", "FLOAT": "PrimitiveFloat", "BOOLEAN": "PrimitiveBoolean"}


def link(prompt: dict, widget: str, kind: str, value) -> None:
    """Let a value come into a widget of `node` from a node of ComfyUI's own. A combo takes text by way of a switch only."""
    is_count = kind == COUNT and isinstance(value, int)
    source = PRIMITIVES.get("INT" if is_count else kind, "PrimitiveStringMultiline")
    prompt[f"{widget} value"] = node(source, value=value)
    prompt[f"{widget} switch"] = node(
        "ComfySwitchNode", switch=True, on_true=(f"{widget} value", 0), on_false=(f"{widget} value", 0)
    )
    direct = kind != "COMBO"
    prompt["node"]["inputs"][widget] = [f"{widget} value" if direct else f"{widget} switch", 0]
    if direct:
        del prompt[f"{widget} switch"]


def widgets(server: Server, name: str) -> list[tuple[str, str, dict]]:
    """Return a node's widgets: name, type, options."""
    found = []
    for widget, (kind, options) in input_list(server.get(f"/object_info/{name}")[name]):
        kind = "COMBO" if isinstance(kind, list) else kind
        if kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", COUNT):
            found.append((widget, kind, options))
    return found


@pytest.mark.parametrize("name", NODES)
def test_every_widget_takes_a_link(server, name):
    prompt = subjects()[name]
    for widget, kind, _ in widgets(server, name):
        link(prompt, widget, kind, prompt["node"]["inputs"][widget])
    seen = server.run(prompt)
    assert seen.end == "execution_success", seen.detail


@pytest.mark.parametrize("name", NODES)
def test_what_comes_over_a_link_is_checked_when_the_node_runs(server, name):
    """And the error is short: the kind of error, then a sentence that begins with the widget's name."""
    wrong_text = {"timeline": "foo", "devices": "cuda:77", "prompt": "0: a\n99: b"}
    said_of_text = {
        "timeline": "timeline line 1: wanted ",
        "devices": "device cuda:77 is not there: ",
        "prompt": "timeline line 2: frame 99 is past the end of a video of 4 frames",
    }
    for widget, kind, options in widgets(server, name):
        if kind == "BOOLEAN" or widget == "negative":
            continue  # any is right
        value = wrong_text.get(widget, "a wrong one") if kind in ("STRING", "COMBO", COUNT) else options["max"] + 1
        if widget == "seed":
            value = -1
        prompt = subjects()[name]
        link(prompt, widget, kind, value)
        seen = server.run(prompt)
        assert seen.end == "execution_error" and seen.detail["exception_type"] == "JobRefused", (widget, seen)
        said = said_of_text.get(widget, f"{widget}: wanted ")
        assert seen.detail["exception_message"].startswith(said), (widget, seen.detail["exception_message"])


def test_a_link_of_another_type_is_refused_in_words(server):
    for value, wanted in (
        ("many", "a whole number, got 'many'"),
        (True, "a whole number, got True"),
        (2.5, "a whole number, got 2.5"),
    ):
        kind = {str: "COMBO", bool: "BOOLEAN", float: "FLOAT"}[type(value)]
        prompt = subjects()["VideoInfinityClipParallelSampler"]
        link(prompt, "steps", kind, value)
        if kind != "COMBO":
            source = prompt["node"]["inputs"]["steps"]
            prompt["switch"] = node("ComfySwitchNode", switch=True, on_true=tuple(source), on_false=tuple(source))
            prompt["node"]["inputs"]["steps"] = ["switch", 0]
        assert server.run(prompt).detail["exception_message"].startswith(f"steps: wanted {wanted}")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"prompt": "0: a\nfoo"}, "prompt line 2 begins with no time, line 1 does: for a timeline begin every line with one"),
        ({"prompt": "0: a\n4: b"}, "timeline line 2: frame 4 is past the end of a video of 4 frames"),
        ({"width": 100}, "width: wanted a multiple of 8, got 100: use 96"),
        ({"height": 4}, "height: wanted"),
        ({"width": 100_000}, "width: wanted at most 8192, got 100000"),
        ({"frames": 0}, "frames: wanted at least 1, got 0"),
        ({"model": "../../etc"}, "model: wanted one of "),
    ],
)
def test_long_video_refuses_before_it_runs(server, change, said):
    prompt = subjects()["VideoInfinityLongVideo"]
    prompt["node"]["inputs"].update(change)
    status, answer = server.post("/prompt", {"prompt": prompt})
    assert status == 400
    details = [error["details"] for error in answer["node_errors"]["node"]["errors"]]
    assert any(said in detail for detail in details), details


@pytest.mark.parametrize(
    "searched, name",
    [
        (words, name)
        for name, all_words in {
            "LongVideo": ["text to video", "t2v", "txt2vid"],
            "ClipParallelSampler": [
                "text to video",
                "t2v",
                "image to video",
                "img2vid",
                "i2v",
                "video to video",
                "vid2vid",
                "v2v",
            ],
            "ClipParallelEncode": ["image to video", "img2vid", "i2v", "video to video", "vid2vid", "v2v"],
        }.items()
        for words in all_words
    ],
)
def test_a_node_is_found_by_the_words_that_users_search(server, searched, name):
    assert searched in server.get(f"/object_info/VideoInfinity{name}")[f"VideoInfinity{name}"]["search_aliases"]
