"""The nodes' face in a real ComfyUI: every text is there in every language, and no wrong or hostile value gets in."""

import json
import re

import pytest

from harness.hostile import OUTSIDE
from parallel.job import timeline
from parallel.job.job import Noise, Scope, Tuning
from scripts.draw_locale import definition
from scripts.draw_workflows import input_list, is_widget
from tests.test_comfyui import FILE_WORKFLOWS, NODES, VIDEO_WORKFLOWS, shipped, short


@pytest.mark.parametrize("node", NODES)
def test_every_node_input_and_output_is_explained(server, node):
    info = server.get(f"/object_info/{node}")[node]
    assert info["description"] and info["category"] == "Video Infinity" and info["search_aliases"]
    assert all(info["output_tooltips"]) and len(info["output_tooltips"]) == len(info["output"])
    for inputs in (info["input"].get("required", {}), info["input"].get("optional", {})):
        for name, (_, options) in inputs.items():
            assert options.get("tooltip"), f"{node}.{name} has no tooltip"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_text_of_a_node_is_in_every_language(server, language):
    spoken = server.get("/i18n")[language]["nodeDefs"]
    for node in NODES:
        told, info = spoken[node], server.get(f"/object_info/{node}")[node]
        expected = definition(info)
        assert told == expected or language != "en", "run scripts/draw_locale.py again"
        assert {part: set(told[part]) for part in ("inputs", "outputs")} == {
            part: set(expected[part]) for part in ("inputs", "outputs")
        }
        assert all(text["name"] and text["tooltip"] for part in ("inputs", "outputs") for text in told[part].values())
        for part in ("inputs", "outputs"):
            for name, text in expected[part].items():
                assert numbers(told[part][name]["tooltip"]) == numbers(text["tooltip"]), (language, node, name)


def numbers(text: str) -> list[str]:
    return sorted(re.findall(r"\d+(?:\.\d+)?", text))


COUNTS = ("local_context", "global_frames", "model_frames")  # of Dual-Scope Attention: a number, or `auto`


def test_defaults_are_the_jobs_and_are_told_as_they_are(server):
    def options(node: str) -> dict:
        info = server.get(f"/object_info/VideoInfinity{node}")[f"VideoInfinity{node}"]["input"]
        return {name: spec[1] for kind in ("required", "optional") for name, spec in info.get(kind, {}).items()}

    scope, tuning, noise = Scope().model_dump(), Tuning().model_dump(), Noise()
    for name in ("local_bias", "global_bias"):
        scope |= dict(zip((f"{name}_early", f"{name}_late"), scope.pop(name)))
    for node, values in (("DualScopeAttention", scope), ("SpeedMemory", tuning)):
        shown = {name: spec["default"] for name, spec in options(node).items()}
        unset = {name: "auto" if name in COUNTS else 0 for name in values}
        assert shown == {name: unset[name] if value is None else value for name, value in values.items()}
    for node in ("ClipParallelSampler", "VideoPlan"):
        both = options(node)
        assert (both["cfg_low_noise"]["default"], both["shift"]["default"]) == (0, 0), "the job has none"
    sampler = options("ClipParallelSampler")
    assert (sampler["noise"]["default"], sampler["noise_share"]["default"]) == (noise.kind, noise.share)
    assert f"the first {noise.window} frames' noise" in sampler["noise"]["tooltip"]


@pytest.mark.parametrize(
    "node, widget, value, said",
    [
        (
            "timeline",
            "timeline",
            "0: a\nfoo",
            "timeline line 2: wanted `FRAME: text`, `SECONDSs: text` or `MIN:SEC text`, got 'foo'",
        ),
        ("ranks", "devices", "cuda:77", "device cuda:77 is not there"),
        ("model", "model", "../../etc", "not in"),
        ("sampler", "scheduler", "heun", "not in"),
        ("sampler", "frames", -1, "smaller than min"),
        ("sampler", "cfg", 1000.0, "bigger than max"),
        ("sampler", "noise", "pink", "not in"),
        ("sampler", "noise_share", 1.5, "bigger than max"),
        ("sampler", "cfg_low_noise", -1.0, "smaller than min"),
        ("sampler", "shift", 101.0, "bigger than max"),
        ("scope", "trained_frames", 1, "trained_frames: wanted 0, or 2 and more, got 1"),
        ("scope", "places", "far", "not in"),
        ("scope", "local_context", "many", "local_context: wanted auto or a whole number from 0 to 4096, got 'many'"),
        ("scope", "global_frames", -1, "global_frames: wanted auto or a whole number from 0 to 4096, got -1"),
        ("scope", "global_frames", 2.5, "global_frames: wanted auto or a whole number from 0 to 4096, got 2.5"),
        ("scope", "local_context", "4097", "local_context: wanted auto or a whole number from 0 to 4096, got '4097'"),
        ("scope", "model_frames", "0", "model_frames: wanted auto or a whole number from 1 to 4096, got '0'"),
    ],
)
def test_a_wrong_widget_is_an_error_of_its_node(server, node, widget, value, said):
    prompt = short("prompt_timeline")
    prompt[node]["inputs"][widget] = value
    logged = server.log.stat().st_size
    status, answer = server.post("/prompt", {"prompt": prompt})
    assert status == 400
    assert said in json.dumps(answer["node_errors"][node], ensure_ascii=False).replace("\\n", "\n")
    assert "Traceback" not in server.log.read_text()[logged:]


def test_workflows_from_before_there_was_auto_and_3d_attention_say_what_they_said(server):
    """Numbers where there is text now, and no widget that came later."""
    plan = shipped("plan_only")
    for widget in ("places", "rotate", "full_windows", "model_frames"):
        del plan["scope"]["inputs"][widget]
    for widget in ("scheduler", "cfg_low_noise", "shift"):
        del plan["plan"]["inputs"][widget]
    texts = {}
    for local_context in (8, "8", " 8 ", "auto", "Auto", 3):
        plan["scope"]["inputs"].update(local_context=local_context, global_frames=16)
        seen = server.run(plan)
        assert seen.end == "execution_success", seen.detail
        texts[local_context] = seen.outputs["words"]["text"]
    assert texts[8] == texts["8"] == texts[" 8 "] == texts["auto"] == texts["Auto"] != texts[3], "this model's own is 8"


def test_the_editor_chooses_from_prompts_as_in_comfyuis_own_boxes(server):
    for node, widget in [("PromptTimeline", "timeline"), ("PromptTimeline", "negative"), ("LongVideo", "prompt")]:
        _, options = server.get(f"/object_info/VideoInfinity{node}")[f"VideoInfinity{node}"]["input"]["required"][widget]
        assert options["dynamicPrompts"] and options["multiline"]


def test_a_fresh_long_video_fits_any_length(server):
    _, options = server.get("/object_info/VideoInfinityLongVideo")["VideoInfinityLongVideo"]["input"]["required"]["prompt"]
    assert len(timeline.read_prompt(options["default"], fps=8, frames=1)) == 1


@pytest.mark.parametrize("workflow", [*VIDEO_WORKFLOWS, *FILE_WORKFLOWS, "plan_only"])
def test_a_shipped_workflow_has_a_value_for_every_widget_and_no_other(server, workflow):
    """Which the editor would add, so that its file and the API's said other things. Drawn by scripts/draw_workflows.py."""
    known = server.get("/object_info")
    for name, node in shipped(workflow).items():
        if node["class_type"] in NODES:
            inputs = input_list(known[node["class_type"]])
            assert {key for key, spec in inputs if is_widget(spec)} <= node["inputs"].keys(), name
            assert node["inputs"].keys() <= {key for key, _ in inputs}, name


FREE_TEXT = ("negative", "prompt")  # what a model hears; any words are good ones


def test_no_other_widget_of_text_takes_a_path(server):
    """Out of its folder, absolute, of another host, or with a zero in it: each widget of each node in one of the workflows."""
    found = {
        (node["class_type"], widget): (workflow, name)
        for workflow in VIDEO_WORKFLOWS
        for name, node in shipped(workflow).items()
        for widget, value in node["inputs"].items()
        if node["class_type"] in NODES and isinstance(value, str) and widget not in FREE_TEXT
    }
    assert len(found) >= 10
    for (kind, widget), (workflow, name) in found.items():
        for outside in OUTSIDE:
            prompt = shipped(workflow)
            prompt[name]["inputs"][widget] = outside
            assert server.post("/prompt", {"prompt": prompt})[0] == 400, (kind, widget, outside)
