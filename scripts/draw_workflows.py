"""Write the shared workflows, for the graph editor and in API format: `python -m scripts.draw_workflows http://127.0.0.1:8188`.

Asks a running ComfyUI, with this pack, for the nodes' inputs; so run it again after changing those.
"""

import argparse
import json
import re
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMFYUI = "0.30.0"
LARGE = """For **VideoCrafter2** on GPUs:

- put its diffusers conversion into `models/diffusers` and choose it in *Load Video Model*; `parts`: a ZeroScope folder, if the conversion holds the UNet alone; dtype `float16`
- width 512, height 320, steps 30, cfg 12, fps 8
- *Worker Ranks*: `auto` takes every GPU
- *Dual-Scope Attention*: local_context 8, global_frames 16"""
ORANGE, BLUE, GREEN = "#b06634", "#3f789e", "#8A8"

DYNAMIC = "COMFY_DYNAMICCOMBO_V3"  # a choice that brings further inputs; its first one brings none
Link = tuple[str, int]


@dataclass
class Node:
    """A node: its type, the inputs that differ from the defaults or are linked, and where it stands."""

    type: str
    inputs: dict
    at: tuple[int, int]
    size: tuple[int, int]


@dataclass
class Workflow:
    """Nodes by the names that their links use, and what is written around them."""

    nodes: dict[str, Node]
    notes: list[tuple[str, tuple[int, int], tuple[int, int]]] = field(default_factory=list)  # text, place, size
    groups: list[tuple[str, tuple[int, int, int, int], str]] = field(default_factory=list)  # title, bounding box, colour


def sources(prompts: str) -> dict[str, Node]:
    """Return the nodes that say what to make, and with what, in a column of 340 pixels."""
    plain = {f"{scope}_bias_{phase}": 0.0 for scope in ("local", "global") for phase in ("early", "late")}
    return {
        "model": Node("VideoInfinityLoadVideoModel", {}, (40, 100), (340, 150)),
        "ranks": Node("VideoInfinityWorkerRanks", {}, (40, 310), (340, 130)),
        "scope": Node(
            "VideoInfinityDualScopeAttention", {"local_context": 12, "global_frames": 8, **plain}, (40, 500), (340, 270)
        ),
        "timeline": Node("VideoInfinityPromptTimeline", {"timeline": prompts}, (440, 100), (400, 300)),
    }


def saving(prefix: str, images: Link, at: tuple[int, int]) -> dict[str, Node]:
    """Return ComfyUI's own nodes that store a video."""
    x, y = at
    return {
        "video": Node("CreateVideo", {"images": images, "fps": 8.0}, (x, y), (300, 100)),
        "save": Node("SaveVideo", {"video": ("video", 0), "filename_prefix": f"video/{prefix}"}, (x, y + 170), (340, 420)),
    }


def sampler(seed: int, at: tuple[int, int], **inputs) -> Node:
    """Return a sampler whose links are those of `sources`."""
    links = {"model": ("model", 0), "timeline": ("timeline", 0), "ranks": ("ranks", 0), "scope": ("scope", 0)}
    return Node("VideoInfinityClipParallelSampler", {**links, "seed": seed, **inputs}, at, (340, 400))


def decode(latent: str, at: tuple[int, int]) -> Node:
    """Return a decoder of a node's latents."""
    inputs = {"model": ("model", 0), "latent": (latent, 0), "ranks": ("ranks", 0)}
    return Node("VideoInfinityClipParallelDecode", inputs, at, (260, 110))


CIRCLE, TRIANGLE = (
    "a red circle orbiting clockwise on a gray background",
    "a blue triangle bouncing horizontally on a gray background",
)
FIRST = """**Your first long video.** Press *Run*: 96 frames, made by every GPU of this machine together, or by two CPU ranks, with the small model that ships with the pack.

- one prompt for all frames, or one a line with the frame or second from which it is seen: `0: a cat wakes`, `4.5s: it jumps`
- make it longer with `frames`; the same seed makes the same video on any number of GPUs
- Cancel ends the run within a step

*Long Video* has everything in one node; the template *prompt_timeline* shows the single parts.

For **VideoCrafter2** or **ZeroScope** on GPUs: put the diffusers folder into `models/diffusers`, choose it, and set width 512 and height 320."""

WORKFLOWS = {
    "text_to_long_video": Workflow(
        {
            "long_video": Node("VideoInfinityLongVideo", {"prompt": CIRCLE, "seed": 4}, (40, 100), (420, 380)),
            **saving("text_to_long_video", ("long_video", 0), (520, 100)),
        },
        [(FIRST, (920, 100), (420, 380))],
    ),
    "prompt_timeline": Workflow(
        {
            **sources(f"0: {CIRCLE}\n48: {TRIANGLE}"),
            "sampler": sampler(4, (440, 460)),
            "decode": decode("sampler", (900, 100)),
            **saving("prompt_timeline", ("decode", 0), (900, 280)),
        },
        [
            (
                "A line of *Prompt Timeline* is seen from its frame on; it takes over within `fade` frames.",
                (1280, 100),
                (360, 110),
            ),
            (LARGE, (1280, 280), (360, 360)),
        ],
        [
            ("Model and ranks", (20, 30, 380, 860), BLUE),
            ("What is seen", (420, 30, 440, 880), GREEN),
            ("Video", (880, 30, 380, 880), ORANGE),
        ],
    ),
    "refine_video": Workflow(
        {
            **sources(f"0: {CIRCLE}"),
            "sampler": sampler(4, (440, 460), frames=48),
            "decode": decode("sampler", (900, 100)),
            "encode": Node(
                "VideoInfinityClipParallelEncode",
                {"model": ("model", 0), "images": ("decode", 0), "ranks": ("ranks", 0)},
                (900, 280),
                (260, 110),
            ),
            "other_timeline": Node(
                "VideoInfinityPromptTimeline",
                {"timeline": "0: a yellow circle orbiting clockwise on a gray background"},
                (1280, 100),
                (400, 300),
            ),
            "refine": sampler(4, (1280, 460), frames=48, denoise=0.7, timeline=("other_timeline", 0), latent=("encode", 0)),
            "decode_refined": decode("refine", (1740, 100)),
            **saving("refine_video", ("decode_refined", 0), (1740, 280)),
        },
        [
            (
                "Instead of the first sampler, any IMAGE batch of a video goes into *Clip-Parallel Encode*: width, height and "
                "frames of the second sampler must be those of the video. `denoise` says how much of it changes.",
                (900, 460),
                (320, 190),
            ),
            (LARGE, (2120, 100), (360, 360)),
        ],
        [
            ("Model and ranks", (20, 30, 380, 860), BLUE),
            ("A video to start from", (420, 30, 820, 880), GREEN),
            ("The same video with another prompt", (1260, 30, 840, 880), ORANGE),
        ],
    ),
    "plan_only": Workflow(
        {
            **sources(f"0: {CIRCLE}\n48: {TRIANGLE}\n144: a green ring bouncing vertically on a gray background"),
            "plan": Node(
                "VideoInfinityVideoPlan",
                {
                    "model": ("model", 0),
                    "timeline": ("timeline", 0),
                    "ranks": ("ranks", 0),
                    "scope": ("scope", 0),
                    "frames": 240,
                    "frame": 100,
                    "planned_ranks": 4,
                },
                (440, 460),
                (340, 360),
            ),
            "picture": Node("PreviewImage", {"images": ("plan", 0)}, (900, 100), (720, 330)),
            "words": Node("PreviewAny", {"source": ("plan", 1)}, (900, 500), (720, 260)),
        },
        [
            (
                "Nothing is sampled here: see what a video would cost, and what each frame sees, before you start it. "
                "`planned_ranks` plans for GPUs that this machine need not have.",
                (1680, 100),
                (340, 170),
            ),
            (LARGE, (1680, 330), (360, 360)),
        ],
        [
            ("Model and ranks", (20, 30, 380, 860), BLUE),
            ("What is seen", (420, 30, 440, 830), GREEN),
            ("The plan", (880, 30, 760, 760), ORANGE),
        ],
    ),
}


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
    return isinstance(spec[0], list) or spec[0] in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", DYNAMIC)


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
        prompt[name] = {"class_type": node.type, "inputs": inputs}
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
        if is_widget(spec) and not isinstance(given, tuple):
            values.append(default(spec) if given is None else given)
            if len(spec) > 1 and spec[1].get("control_after_generate"):
                values.append("fixed")
            kind = "COMBO" if isinstance(spec[0], list) else spec[0]
            slots.append({"name": key, "type": kind, "widget": {"name": key}, "link": None})
            continue
        slot = {"name": key, "type": spec[0], "link": None}
        if isinstance(given, tuple):
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
    for name, flow in WORKFLOWS.items():
        for place, content in ((f"api/{name}", api_format(flow, known)), (name, editor_format(flow, known, version))):
            (ROOT / "workflows" / f"{place}.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
