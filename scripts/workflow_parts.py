"""What the shared workflows are built of: nodes, groups of them that go together, and their places in the graph editor."""

from dataclasses import dataclass, field

ORANGE, BLUE, GREEN = "#b06634", "#3f789e", "#8A8"
Link = tuple[str, int]


@dataclass
class Node:
    """A node: its type, the inputs that differ from the defaults or are linked, where it stands, and which files it wants.

    `models` are as ComfyUI's own templates have them (name, url, directory): the editor says which are missing.
    """

    type: str
    inputs: dict
    at: tuple[int, int]
    size: tuple[int, int]
    models: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Workflow:
    """Nodes by the names that their links use, and what is written around them."""

    nodes: dict[str, Node]
    notes: list[tuple[str, tuple[int, int], tuple[int, int]]] = field(default_factory=list)  # text, place, size
    groups: list[tuple[str, tuple[int, int, int, int], str]] = field(default_factory=list)  # title, bounding box, colour


def sources(prompts: str, **model: str) -> dict[str, Node]:
    """Return the nodes that say what to make, and with what, in a column of 340 pixels."""
    return {
        "model": Node("VideoInfinityLoadVideoModel", model, (40, 100), (340, 250)),
        "ranks": Node("VideoInfinityWorkerRanks", {}, (40, 530), (340, 130)),
        "scope": Node("VideoInfinityDualScopeAttention", {}, (40, 720), (340, 350)),
        "timeline": Node("VideoInfinityPromptTimeline", {"timeline": prompts}, (440, 100), (400, 300)),
    }


def saving(prefix: str, images: Link, fps: Link, at: tuple[int, int]) -> dict[str, Node]:
    """Return ComfyUI's own nodes that store a video."""
    x, y = at
    return {
        "video": Node("CreateVideo", {"images": images, "fps": fps}, (x, y), (300, 100)),
        "save": Node("SaveVideo", {"video": ("video", 0), "filename_prefix": f"video/{prefix}"}, (x, y + 170), (340, 420)),
    }


def sampler(seed: int, at: tuple[int, int], **inputs) -> Node:
    """Return a sampler whose links are those of `sources`."""
    links = {"model": ("model", 0), "timeline": ("timeline", 0), "ranks": ("ranks", 0), "scope": ("scope", 0)}
    return Node("VideoInfinityClipParallelSampler", {**links, "seed": seed, **inputs}, at, (340, 562))


def decode(latent: str, at: tuple[int, int]) -> Node:
    """Return a decoder of a node's latents."""
    inputs = {"model": ("model", 0), "latent": (latent, 0), "ranks": ("ranks", 0)}
    return Node("VideoInfinityClipParallelDecode", inputs, at, (260, 110))


def square(name: str, place: tuple[int, int], y: int) -> dict[str, Node]:
    """Return a red square at a place of a gray picture of 64x64, drawn by ComfyUI's own nodes, in a column of 300 pixels from `y`."""
    inputs = {"destination": ("paper", 0), "source": ("square", 0), "x": place[0], "y": place[1]}
    return {
        "paper": Node("EmptyImage", {"width": 64, "height": 64, "color": 0x787878}, (900, 100), (300, 140)),
        "square": Node("EmptyImage", {"width": 20, "height": 20, "color": 0xE12D2D}, (900, 290), (300, 140)),
        name: Node("ImageCompositeMasked", inputs, (900, y), (300, 160)),
    }


def keyframe(picture: str, at: str, y: int, before: str = "") -> Node:
    """Return a node that puts a picture at a frame, after other keyframes if there are any."""
    linked = {"keyframes": (before, 0)} if before else {}
    return Node("VideoInfinityKeyframes", {"images": (picture, 0), "at": at, **linked}, (1240, y), (300, 130))
