"""The shared workflows as graphs: which nodes, how they are wired, where they stand, and what is written around them."""

from scripts.workflow_parts import BLUE, GREEN, ORANGE, Node, Workflow, decode, keyframe, sampler, saving, sources, square

LARGE = """For **VideoCrafter2** on GPUs:

- put its diffusers conversion into `models/diffusers` and choose it in *Load Video Model*; `parts`: a ZeroScope folder, if the conversion holds the UNet alone; dtype `float16`
- width 512, height 320, steps 30, cfg 12, fps 8
- *Worker Ranks*: `auto` takes every GPU
- *Dual-Scope Attention*: `auto`, which is local_context 8 and global_frames 16"""
WAN = """For **Wan 2.2 14B** on GPUs:

- the template *wan22_text_to_long_video* has it from ComfyUI's own files; a folder in diffusers format (`Wan2.2-T2V-A14B-Diffusers`) goes into `models/diffusers`; dtype `bfloat16`
- width 832, height 480, frames 161 or more, fps 16
- steps 40, cfg 4, cfg_low_noise 3, shift 12: what its makers use
- *Worker Ranks*: `auto` takes every GPU
- *Dual-Scope Attention*: `auto` suits a model that was trained on 81 frames
- *Video Plan* says what memory that takes

**Wan 2.1**: cfg 5, cfg_low_noise 0, shift 0. **Wan 2.2 5B**: the same, in 1280 x 704 and fps 24."""
WAN_IMAGES = """For **Wan 2.2 14B image-to-video** on GPUs:

- the templates *wan22_image_to_long_video* and *wan22_keyframes* have it from ComfyUI's own files; a folder in diffusers format (`Wan2.2-I2V-A14B-Diffusers`) goes into `models/diffusers`; dtype `bfloat16`
- *Load Image* in the place of the pictures that are drawn here
- width 832, height 480, frames 161 or more, fps 16
- steps 40, cfg 3.5, cfg_low_noise 3.5, shift 5: what its makers use
- *Worker Ranks*: `auto` takes every GPU

**Wan 2.1** (image-to-video, first and last frame) and **Wan 2.2 5B** take keyframes as well, and so do models for text alone, more loosely."""


def of_keyframes(name: str, prompts: str, pictures: dict[str, Node], last: str, note: str) -> Workflow:
    """Return a workflow of the small Wan whose sampler takes pictures, the last of their nodes being `last`."""
    links = {"width": 64, "height": 64, "frames": 97, "keyframes": (last, 0)}
    return Workflow(
        {
            **sources(prompts, model="moving-shapes-wan (bundled)"),
            **pictures,
            "sampler": sampler(4, (440, 460), **links),
            "decode": decode("sampler", (1620, 100)),
            **saving(name, ("decode", 0), ("sampler", 1), (1620, 280)),
        },
        [(note, (2020, 100), (360, 240)), (WAN_IMAGES, (2020, 400), (360, 400))],
        [
            ("Model and ranks", (20, 30, 380, 1480), BLUE),
            ("What is seen", (420, 30, 440, 1480), GREEN),
            ("Pictures, and when the video shows them", (880, 30, 700, 1480), GREEN),
            ("Video", (1600, 30, 380, 1480), ORANGE),
        ],
    )


CIRCLE, TRIANGLE = (
    "a red circle orbiting clockwise on a gray background",
    "a blue triangle bouncing horizontally on a gray background",
)
RED_SQUARE = "a red square orbiting clockwise on a gray background"
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
            ("Model and ranks", (20, 30, 380, 1480), BLUE),
            ("What is seen", (420, 30, 440, 1480), GREEN),
            ("Video", (880, 30, 380, 1480), ORANGE),
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
            ("Model and ranks", (20, 30, 380, 1480), BLUE),
            ("What is seen", (420, 30, 440, 1480), GREEN),
            ("Video", (880, 30, 380, 1480), ORANGE),
        ],
    ),
    "wan_image_to_video": of_keyframes(
        "wan_image_to_video",
        f"0: {RED_SQUARE}",
        {**square("picture", (36, 22), 480), "keyframes": keyframe("picture", "0", 100)},
        last="keyframes",
        note="The video begins with the picture, a red square on gray, since the small Wan knows nothing else. Every frame sees it, "
        "however long the video is: that keeps what moves what it is. Text and picture should tell of the same thing.",
    ),
    "wan_first_last_frame": of_keyframes(
        "wan_first_last_frame",
        f"0: {RED_SQUARE}",
        {
            **square("first", (36, 22), 480),
            **square("last_picture", (8, 22), 690),
            "start": keyframe("first", "0", 100),
            "end": keyframe("last_picture", "last", 290, before="start"),
        },
        last="end",
        note="The video begins with one picture and ends with the other; all that is between is the model's. One *Keyframes* node "
        "leads into the next. A picture that the model can't reach in the time between is met by a jump: give it more frames.",
    ),
    "wan_keyframes": of_keyframes(
        "wan_keyframes",
        f"0: {RED_SQUARE}\n48: a red square bouncing horizontally on a gray background",
        {
            **square("first", (36, 22), 480),
            **square("middle", (8, 22), 690),
            **square("last_picture", (38, 22), 900),
            "start": keyframe("first", "0", 100),
            "turn": keyframe("middle", "48", 290, before="start"),
            "end": keyframe("last_picture", "last", 480, before="turn"),
        },
        last="end",
        note="Three pictures, at frame 0, at frame 48, where the second prompt takes over, and at the end. A place is a frame (`48`), "
        "seconds (`6s`) or `last`; several pictures in one batch take several places (`0, 6s, last`) or `spread`. *Video Plan* draws "
        "them on the time axis.",
    ),
    "image_to_long_video": Workflow(
        {
            **sources(f"0: {RED_SQUARE}"),
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
            ("Model and ranks", (20, 30, 380, 1480), BLUE),
            ("What is seen", (420, 30, 440, 1480), GREEN),
            ("A picture to start from", (880, 30, 360, 1480), GREEN),
            ("Video", (1260, 30, 380, 1480), ORANGE),
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
            ("Model and ranks", (20, 30, 380, 1480), BLUE),
            ("A video to start from", (420, 30, 820, 1480), GREEN),
            ("The same video with another prompt", (1260, 30, 840, 1480), ORANGE),
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
            ("Model and ranks", (20, 30, 380, 1480), BLUE),
            ("What is seen", (420, 30, 440, 1480), GREEN),
            ("The plan", (880, 30, 760, 760), ORANGE),
        ],
    ),
}
