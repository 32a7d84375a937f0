"""Write the shared workflows, for the graph editor and in API format: `python -m scripts.draw_workflows http://127.0.0.1:8188`.

Asks a running ComfyUI, with this pack, for the nodes' inputs; so run it again after changing those.
"""

import argparse
import json
import re
import urllib.request
from pathlib import Path

from scripts import workflow_files, workflow_graphs
from scripts.workflow_parts import Workflow

ROOT = Path(__file__).resolve().parents[1]
COMFYUI = "0.30.0"
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"  # a choice that brings further inputs; its first one brings none


def ask_nodes(server: str) -> dict:
    """Return what a running ComfyUI says of every node it knows."""
    with urllib.request.urlopen(f"{server}/object_info") as answer:
        return json.loads(answer.read())


def input_list(info: dict) -> list[tuple[str, list]]:
    """Return a node's inputs in the order of its schema: (name, [type, options])."""
    order = info["input_order"]
    return [(name, info["input"][kind][name]) for kind in ("required", "optional") for name in order.get(kind, [])]


def is_widget(spec: list) -> bool:
    """Return whether an input has a widget, so that its value is stored with the node."""
    kinds = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", DYNAMIC)
    return isinstance(spec[0], list) or spec[0] in kinds or (len(spec) > 1 and "widgetType" in spec[1])


def default(spec: list):
    """Return what a widget shows at first."""
    options = spec[1] if len(spec) > 1 else {}
    choices = spec[0] if isinstance(spec[0], list) else options.get("options", [None])
    return options.get("default", choices[0]["key"] if spec[0] == DYNAMIC else choices[0])


def api_format(flow: Workflow, known: dict) -> dict:
    """Return a workflow as `/prompt` takes it."""
    prompt = {}
    for name, node in flow.nodes.items():
        inputs = {}
        for key, spec in input_list(known[node.type]):
            if key in node.inputs:
                value = node.inputs[key]
                inputs[key] = list(value) if isinstance(value, tuple) else value
            elif is_widget(spec):
                inputs[key] = default(spec)
        title = known[node.type]["display_name"]
        prompt[name] = {"class_type": node.type, "inputs": inputs, "_meta": {"title": title}}
    return prompt


def editor_format(flow: Workflow, known: dict, version: str) -> dict:
    """Return a workflow as the graph editor stores it."""
    numbers = {name: place for place, name in enumerate(flow.nodes, start=1)}
    links: list[list] = []
    nodes = [editor_node(name, flow, known, links=links, numbers=numbers, version=version) for name in flow.nodes]
    for link, origin, slot, *_ in links:
        output = nodes[origin - 1]["outputs"][slot]
        output["links"] = [*(output["links"] or []), link]
    for text, at, size in flow.notes:
        note = editor_box("MarkdownNote", len(nodes) + 1, at, size)
        nodes.append({**note, "inputs": [], "outputs": [], "properties": {}, "widgets_values": [text]})
    groups = [
        {"id": place, "title": title, "bounding": list(box), "color": colour, "font_size": 24, "flags": {}}
        for place, (title, box, colour) in enumerate(flow.groups, start=1)
    ]
    counts = {"revision": 0, "last_node_id": len(nodes), "last_link_id": len(links)}
    return {**counts, "nodes": nodes, "links": links, "groups": groups, "config": {}, "extra": {}, "version": 0.4}


def editor_node(name: str, flow: Workflow, known: dict, *, links: list[list], numbers: dict[str, int], version: str) -> dict:
    """Return one node as the graph editor stores it, and add the links into it to `links`."""
    node = flow.nodes[name]
    info = known[node.type]
    slots, values = [], []
    for key, spec in input_list(info):
        given = node.inputs.get(key)
        is_linked = isinstance(given, tuple)
        slot = {"name": key, "type": "COMBO" if isinstance(spec[0], list) else spec[0], "link": None}
        if is_widget(spec):
            slot["widget"] = {"name": key}
            values.append(default(spec) if given is None or is_linked else given)  # a linked widget keeps its place in the list
            if len(spec) > 1 and spec[1].get("control_after_generate"):
                values.append("fixed")
        if is_linked:
            slot["link"] = len(links) + 1
            links.append([slot["link"], numbers[given[0]], given[1], numbers[name], len(slots), spec[0]])
        slots.append(slot)
    outputs = zip(info["output_name"], info["output"], strict=True)
    ours = node.type.startswith("VideoInfinity")
    return {
        **editor_box(node.type, numbers[name], node.at, node.size),
        "inputs": slots,
        "outputs": [{"name": output, "type": kind, "links": None} for output, kind in outputs],
        "properties": {
            "cnr_id": "comfyui-video-infinity" if ours else "comfy-core",
            "ver": version if ours else COMFYUI,
            "Node name for S&R": node.type,
            **({"models": node.models} if node.models else {}),
        },
        "widgets_values": values,
    }


def editor_box(kind: str, number: int, at: tuple[int, int], size: tuple[int, int]) -> dict:
    """Return what nodes and notes have in common."""
    place = {"id": number, "type": kind, "pos": list(at), "size": list(size)}
    return {**place, "flags": {}, "order": number - 1, "mode": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", help="such as http://127.0.0.1:8188")
    args = parser.parse_args()
    known = ask_nodes(args.server)
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    for name, flow in (workflow_graphs.WORKFLOWS | workflow_files.WORKFLOWS).items():
        for place, content in ((f"api/{name}", api_format(flow, known)), (name, editor_format(flow, known, version))):
            (ROOT / "workflows" / f"{place}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
