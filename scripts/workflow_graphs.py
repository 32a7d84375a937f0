"""The shared workflows as graphs: which nodes, how they are wired, where they stand, and what is written around them."""

from dataclasses import dataclass, field

LARGE = """For **VideoCrafter2** on GPUs:

- put its diffusers conversion into `models/diffusers` and choose it in *Load Video Model*; `parts`: a ZeroScope folder, if the conversion holds the UNet alone; dtype `float16`
- width 512, height 320, steps 30, cfg 12, fps 8
- *Worker Ranks*: `auto` takes every GPU
- *Dual-Scope Attention*: `auto`, which is local_context 8 and global_frames 16"""
WAN = """For **Wan 2.2 14B** on GPUs:

- put its folder in diffusers format (`Wan2.2-T2V-A14B-Diffusers`) into `models/diffusers` and choose it in *Load Video Model*; dtype `bfloat16`, offload `parts` if memory is short
- width 832, height 480, frames 161 or more, fps 16
- steps 40, cfg 4, cfg_low_noise 3, shift 12: what its makers use
- *Worker Ranks*: `auto` takes every GPU
- *Dual-Scope Attention*: `auto` suits a model that was trained on 81 frames
- *Video Plan* says what memory that takes

**Wan 2.1**: cfg 5, cfg_low_noise 0, shift 0. **Wan 2.2 5B**: the same, in 1280 x 704 and fps 24."""
ORANGE, BLUE, GREEN = "#b06634", "#3f789e", "#8A8"

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


def sources(prompts: str, **model: str) -> dict[str, Node]:
    """Return the nodes that say what to make, and with what, in a column of 340 pixels."""
    return {
        "model": Node("VideoInfinityLoadVideoModel", model, (40, 100), (340, 150)),
        "ranks": Node("VideoInfinityWorkerRanks", {}, (40, 310), (340, 130)),
        "scope": Node("VideoInfinityDualScopeAttention", {}, (40, 500), (340, 350)),
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


CIRCLE, TRIANGLE = (
    "a red circle orbiting clockwise on a gray background",
    "a blue triangle bouncing horizontally on a gray background",
)
FIRST = """**Your first long video.** Press *Run*: 96 frames, made by every GPU of this machine together, or by two CPU ranks, with the small model that ships with the pack.

- one prompt for all frames, or one a line with the frame or second from which it is seen: `0: a cat wakes`, `4.5s: it jumps`
- make it longer with `frames`; the same seed makes the same video on any number of GPUs
- Cancel ends the run within a step

*Long Video* has everything in one node; the template *prompt_timeline* shows the single parts, *image_to_long_video* starts from a picture.

For **VideoCrafter2** or **ZeroScope** on GPUs: put the diffusers folder into `models/diffusers`, choose it, and set width 512 and height 320."""

WORKFLOWS = {
    "first_long_video": Workflow(
        {
            "long_video": Node("VideoInfinityLongVideo", {"prompt": CIRCLE, "seed": 4}, (40, 100), (420, 440)),
            **saving("first_long_video", ("long_video", 0), ("long_video", 2), (520, 100)),
        },
        [(FIRST, (920, 100), (420, 380))],
    ),
    "prompt_timeline": Workflow(
        {
            **sources(f"0: {CIRCLE}\n48: {TRIANGLE}"),
            "sampler": sampler(4, (440, 460)),
            "decode": decode("sampler", (900, 100)),
            **saving("prompt_timeline", ("decode", 0), ("sampler", 1), (900, 280)),
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
            ("Model and ranks", (20, 30, 380, 1340), BLUE),
            ("What is seen", (420, 30, 440, 1340), GREEN),
            ("Video", (880, 30, 380, 1340), ORANGE),
        ],
    ),
    "wan_text_to_video": Workflow(
        {
            **sources(f"0: {CIRCLE}\n48: {TRIANGLE}", model="moving-shapes-wan (bundled)"),
            "sampler": sampler(4, (440, 460), width=64, height=64, frames=97),
            "decode": decode("sampler", (900, 100)),
            **saving("wan_text_to_video", ("decode", 0), ("sampler", 1), (900, 280)),
        },
        [
            (
                "This runs as it is, without a GPU: a small Wan, trained on moving shapes, ships with the pack. Its VAE makes four "
                "frames of each latent but the first, so that lengths of 4 n + 1 frames waste nothing; any other works, too.",
                (1280, 100),
                (360, 160),
            ),
            (WAN, (1280, 320), (360, 340)),
        ],
        [
            ("Model and ranks", (20, 30, 380, 1340), BLUE),
            ("What is seen", (420, 30, 440, 1340), GREEN),
            ("Video", (880, 30, 380, 1340), ORANGE),
        ],
    ),
    "image_to_long_video": Workflow(
        {
            **sources("0: a red square orbiting clockwise on a gray background"),
            "paper": Node("EmptyImage", {"width": 64, "height": 64, "color": 0x787878}, (900, 100), (300, 140)),
            "square": Node("EmptyImage", {"width": 20, "height": 20, "color": 0xE12D2D}, (900, 300), (300, 140)),
            "picture": Node(
                "ImageCompositeMasked",
                {"destination": ("paper", 0), "source": ("square", 0), "x": 36, "y": 22},
                (900, 500),
                (300, 160),
            ),
            "sampler": sampler(4, (440, 460), denoise=0.9, image=("picture", 0)),
            "decode": decode("sampler", (1280, 100)),
            **saving("image_to_long_video", ("decode", 0), ("sampler", 1), (1280, 280)),
        },
        [
            (
                "The picture is drawn by three nodes, a red square on gray, since the small model knows nothing else: put "
                "*Load Image* in their place. It is scaled to the video's size, and every frame starts from it: `denoise` says "
                "how much may change, and so how much can move.",
                (1680, 100),
                (360, 200),
            ),
            (LARGE, (1680, 360), (360, 360)),
        ],
        [
            ("Model and ranks", (20, 30, 380, 1340), BLUE),
            ("What is seen", (420, 30, 440, 1340), GREEN),
            ("A picture to start from", (880, 30, 360, 1340), GREEN),
            ("Video", (1260, 30, 380, 1340), ORANGE),
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
            **saving("refine_video", ("decode_refined", 0), ("refine", 1), (1740, 280)),
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
            ("Model and ranks", (20, 30, 380, 1340), BLUE),
            ("A video to start from", (420, 30, 820, 1340), GREEN),
            ("The same video with another prompt", (1260, 30, 840, 1340), ORANGE),
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
                (340, 432),
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
            ("Model and ranks", (20, 30, 380, 940), BLUE),
            ("What is seen", (420, 30, 440, 940), GREEN),
            ("The plan", (880, 30, 760, 760), ORANGE),
        ],
    ),
}
