"""The shared workflows of Wan 2.2 14B from the files that ComfyUI's own templates name, as graphs."""

from scripts.workflow_parts import BLUE, GREEN, ORANGE, Node, Workflow, keyframe, sampler, sources

HUB = "https://huggingface.co/Comfy-Org"
NETS = f"{HUB}/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files"
TEXTS = f"{HUB}/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
VAE, TEXT_ENCODER = "wan_2.1_vae.safetensors", "umt5_xxl_fp8_e4m3fn_scaled.safetensors"
SIZE = {"width": 832, "height": 480, "frames": 161, "fps": 16.0}
# What the model's makers use.
FROM_TEXT = {"steps": 40, "cfg": 4.0, "cfg_low_noise": 3.0, "shift": 12.0}
FROM_IMAGES = {"steps": 40, "cfg": 3.5, "cfg_low_noise": 3.5, "shift": 5.0}


def net(kind: str, noise: str) -> str:
    """Return the file of a net, of a `kind` (t2v or i2v), for high or low noise."""
    return f"wan2.2_{kind}_{noise}_noise_14B_fp8_scaled.safetensors"


def inputs(kind: str, prompts: str) -> dict[str, Node]:
    """Return the nodes that say what to make, their loader with the files of a kind and where those are had."""
    high, low = net(kind, "high"), net(kind, "low")
    files = {"model": high, "model_low": low, "vae": VAE, "text_encoder": TEXT_ENCODER}
    nodes = sources(prompts, **files, dtype="bfloat16")
    places = [(high, NETS, "diffusion_models"), (low, NETS, "diffusion_models"), (VAE, NETS, "vae")]
    places.append((TEXT_ENCODER, TEXTS, "text_encoders"))
    nodes["model"].models = [
        {"name": name, "url": f"{hub}/{folder}/{name}", "directory": folder} for name, hub, folder in places
    ]
    return nodes


def table(kind: str) -> str:
    """Return a note on which file goes where."""
    loras = "v1.1" if kind == "t2v" else "v1"
    return f"""**Which file goes where**, as for ComfyUI's own Wan 2.2 templates:

| folder of `models` | file | widget |
| --- | --- | --- |
| `diffusion_models` | [{net(kind, "high")}]({NETS}/diffusion_models/{net(kind, "high")}) | model |
| `diffusion_models` | [{net(kind, "low")}]({NETS}/diffusion_models/{net(kind, "low")}) | model_low |
| `vae` | [{VAE}]({NETS}/vae/{VAE}) | vae |
| `text_encoders` | [{TEXT_ENCODER}]({TEXTS}/text_encoders/{TEXT_ENCODER}) | text_encoder |

- fp16 files and GGUF of the same nets go into the same widgets. *Load CLIP*, connected to the sampler's `clip`, may stand for the text encoder
- 4 steps instead of 40: two *Video LoRA* behind the loader, with `wan2.2_{kind}_lightx2v_4steps_lora_{loras}_high_noise` on the net `high` and the one for `low_noise` on `low`; then steps 4, cfg 1, cfg_low_noise 1, shift 5
- *Worker Ranks*: `auto` takes every GPU. *Video Plan* says what memory it takes

Tests run this workflow on tiny random files of the same forms; its authors have not run it with the released ones."""


def film(latent: str, at: tuple[int, int], name: str) -> dict[str, Node]:
    """Return a decoder of a node's latents into a file, and ComfyUI's own node that keeps it."""
    x, y = at
    links = {"model": ("model", 0), "latent": (latent, 0), "fps": (latent, 1), "ranks": ("ranks", 0)}
    return {
        "decode": Node("VideoInfinityClipParallelDecodeToVideo", links, at, (300, 130)),
        "save": Node("SaveVideo", {"video": ("decode", 0), "filename_prefix": f"video/{name}"}, (x, y + 200), (340, 420)),
    }


def picture(y: int) -> Node:
    """Return ComfyUI's own node for a picture, in a column of 300 pixels from `y`; the picture is one that every ComfyUI has."""
    return Node("LoadImage", {"image": "example.png"}, (900, y), (300, 340))


def of_pictures(name: str, prompts: str, pictures: dict[str, Node], last: str, note: str) -> Workflow:
    """Return a workflow whose sampler takes pictures, the last of their nodes being `last`."""
    return Workflow(
        {
            **inputs("i2v", prompts),
            **pictures,
            "sampler": sampler(4, (440, 460), keyframes=(last, 0), **SIZE, **FROM_IMAGES),
            **film("sampler", (1620, 100), name),
        },
        [(table("i2v"), (2020, 100), (640, 480)), (note, (2020, 640), (640, 160))],
        [
            ("Model and ranks", (20, 30, 380, 1480), BLUE),
            ("What is seen", (420, 30, 440, 1480), GREEN),
            ("Pictures, and when the video shows them", (880, 30, 700, 1480), GREEN),
            ("Video", (1600, 30, 380, 1480), ORANGE),
        ],
    )


FOX = "a red fox trots through fresh snow at dawn, the camera follows it"
BOTTLE = "stars and mist drift slowly inside a glass bottle that stands on a rock"

WORKFLOWS = {
    "wan22_text_to_long_video": Workflow(
        {
            **inputs("t2v", f"0: {FOX}\n5s: the fox stops and looks into the camera, snow falls"),
            "sampler": sampler(4, (440, 460), **SIZE, **FROM_TEXT),
            **film("sampler", (900, 100), "wan22_text_to_long_video"),
        },
        [
            (table("t2v"), (1280, 100), (640, 480)),
            (
                "161 frames are twice what the model was trained on; time and memory of a GPU grow in line with its own share of them. A "
                "second prompt takes over at its second. Frames go into the file as they are decoded: no IMAGE of all is held.",
                (1280, 640),
                (640, 120),
            ),
        ],
        [
            ("Model and ranks", (20, 30, 380, 1480), BLUE),
            ("What is seen", (420, 30, 440, 1480), GREEN),
            ("Video", (880, 30, 380, 1480), ORANGE),
        ],
    ),
    "wan22_image_to_long_video": of_pictures(
        "wan22_image_to_long_video",
        f"0: {BOTTLE}",
        {"picture": picture(290), "keyframes": keyframe("picture", "0", 100)},
        last="keyframes",
        note="The video begins with the picture, and every frame of it sees the picture, however long the video is. It is scaled to width "
        "and height, and cropped to its middle. Text and picture should tell of the same thing.",
    ),
    "wan22_keyframes": of_pictures(
        "wan22_keyframes",
        f"0: {BOTTLE}",
        {
            "first": picture(100),
            "middle": picture(500),
            "last_picture": picture(900),
            "start": keyframe("first", "0", 100),
            "turn": keyframe("middle", "5s", 500, before="start"),
            "end": keyframe("last_picture", "last", 900, before="turn"),
        },
        last="end",
        note="Three pictures, at the start, at 5 seconds, and at the end: choose your own. A place is a frame (`80`), seconds (`5s`) or "
        "`last`. Two of them alone make a first and a last frame; a video of several frames is gone on from.",
    ),
    "wan22_refine_video": Workflow(
        {
            **inputs("t2v", f"0: {FOX}"),
            "sampler": sampler(4, (440, 460), **SIZE, **FROM_TEXT),
            "larger": Node(
                "LatentUpscaleBy",
                {"samples": ("sampler", 0), "upscale_method": "bicubic", "scale_by": 1.5},
                (900, 100),
                (300, 110),
            ),
            "refine": sampler(
                4,
                (900, 460),
                **{**SIZE, "width": 0, "height": 0, "frames": 0},
                **{**FROM_TEXT, "shift": 3.0},
                denoise=0.3,
                latent=("larger", 0),
            ),
            **film("refine", (1280, 100), "wan22_refine_video"),
        },
        [
            (table("t2v"), (1680, 100), (640, 480)),
            (
                "The video is made in 832 x 480, and its latents, in 1248 x 720, go through the last 30 % of the steps once more, by the net for "
                "low noise alone. Width, height and frames of 0 are those of the latents. For a video that you have: *Load Video*, *Get Video "
                "Components* and the second sampler's `image` in place of the first sampler.",
                (1680, 640),
                (640, 160),
            ),
        ],
        [
            ("Model and ranks", (20, 30, 380, 1480), BLUE),
            ("What is seen", (420, 30, 440, 1480), GREEN),
            ("The same video, larger and finer", (880, 30, 360, 1480), ORANGE),
            ("Video", (1260, 30, 380, 1480), ORANGE),
        ],
    ),
}
