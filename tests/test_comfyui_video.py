"""A VIDEO in a real ComfyUI: encoded as it is decoded, taken by ComfyUI's own nodes, whole or not there."""

import copy

import av
import numpy as np

from tests.graphs import LINKS, SOURCES, node, ours, sampler
from tests.test_comfyui import saved
from tests.test_comfyui_latents import save_images

DECODES = {"model": LINKS["model"], "ranks": LINKS["ranks"], "latent": ("sampler", 0)}


def graph(frames: int) -> dict:
    return {
        **copy.deepcopy(SOURCES),
        "sampler": sampler(frames=frames, steps=2, fps=12.5),
        "film": ours("ClipParallelDecodeToVideo", **DECODES, fps=("sampler", 1)),
        "save": node("SaveVideo", video=("film", 0), filename_prefix="film", format="auto", codec="auto"),
    }


def films(server) -> set:
    return set((server.base / "temp").glob("*video-infinity*"))


def test_save_video_takes_a_video_that_was_encoded_as_it_came(server):
    prompt = graph(45)
    prompt |= {
        "images": ours("ClipParallelDecode", **DECODES),
        "saved": save_images(("images", 0), "film_images"),
        "parts": node("GetVideoComponents", video=("film", 0)),
        "parts saved": save_images(("parts", 0), "film_parts"),
        "fps": node("PreviewAny", source=("parts", 2)),
    }
    before = films(server)
    seen = server.run(prompt)
    assert seen.end == "execution_success", seen.detail
    (film,) = films(server) - before
    file = seen.outputs["save"]["images"][0]
    for path in (film, server.base / "output" / file["subfolder"] / file["filename"]):
        with av.open(str(path)) as video:
            assert (video.streams.video[0].codec.name, video.streams.video[0].average_rate) == ("h264", 12.5)
            assert sum(1 for _ in video.decode(video=0)) == 45
    images, parts = (saved(server, f"film_{name}").astype(int) for name in ("images", "parts"))
    assert images.shape == parts.shape == (45, 64, 64, 3)
    assert np.abs(images - parts).mean() < 3 < np.abs(images[1:] - parts[:-1]).mean()
    assert seen.outputs["fps"]["text"] == ["12.5"]


def test_a_cancelled_video_leaves_no_file(server):
    before = films(server)
    seen = server.run_and_cancel(graph(600), "film")
    assert seen.end == "execution_interrupted" and seen.detail["node_type"] == "VideoInfinityClipParallelDecodeToVideo"
    assert films(server) == before
