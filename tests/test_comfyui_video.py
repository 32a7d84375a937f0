"""A VIDEO in a real ComfyUI: encoded as it is decoded, taken by ComfyUI's own nodes, whole or not there."""

import copy

import av
import numpy as np

from tests.graphs import LINKS, SOURCES, long_video, node, ours, sampler
from tests.test_comfyui import saved
from tests.test_comfyui_latents import save_images, save_latent, stored

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


def test_long_video_gives_a_video_of_a_loaded_model_and_holds_no_image(server):
    """The loaded model counts, and not the widget's, a Wan, of which a width of 40 would be refused."""
    made = {"steps": 2, "width": 40, "frames": 37}
    film = long_video(**made, loaded_model=("model", 0), model="moving-shapes-wan (bundled)", output="video")
    prompt = {
        "model": copy.deepcopy(SOURCES["model"]),
        "film": film,
        "plain": long_video(**made),
        "film latent": save_latent(("film", 1), "long_film"),
        "plain latent": save_latent(("plain", 1), "long_plain"),
        "images": save_images(("plain", 0), "long_images"),
    }
    for name in ("film", "plain"):
        prompt[f"{name} parts"] = node("GetVideoComponents", video=(name, 3))
        prompt[f"{name} saved"] = save_images((f"{name} parts", 0), f"long_{name}_frames")
        prompt[f"{name} fps"] = node("PreviewAny", source=(f"{name} parts", 2))
    before = films(server)
    seen = server.run(prompt)
    assert seen.end == "execution_success", seen.detail
    assert len(films(server) - before) == 1, "a video of images is no file until it is saved"
    assert (stored(server, "long_film") - stored(server, "long_plain")).abs().max() < 1e-3
    images, plain, film = (saved(server, f"long_{name}").astype(int) for name in ("images", "plain_frames", "film_frames"))
    assert images.shape == film.shape == (37, 64, 40, 3) and (images == plain).all()
    assert np.abs(images - film).mean() < 3 < np.abs(images[1:] - film[:-1]).mean()
    assert seen.outputs["film fps"]["text"] == seen.outputs["plain fps"]["text"] == ["8.0"]

    prompt["images"]["inputs"]["images"] = ["film", 0]
    seen = server.run(prompt)
    assert seen.end == "execution_error" and "no frame of which stays in memory" in seen.detail["exception_message"]
