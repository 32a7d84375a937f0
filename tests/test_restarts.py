"""A real ComfyUI whose ranks end and start: as many as a video has work for, unloaded, cancelled as they start, cold.

A start takes longest of all, so there are as few as can be: each test goes on with the ranks that the one before has left.
"""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

from harness.processes import ends
from tests.graphs import SOURCES, node, ours, sampler, subjects
from tests.test_comfyui import quick, saved
from tests.test_comfyui_latents import clip, save_images, save_latent, stored
from tests.test_pressure import once

ONE_RANK = SOURCES | {"ranks": ours("WorkerRanks", devices="cpu", threads=0, keep_warm=True)}  # what `auto` takes for one frame


def test_one_frame_is_made_by_as_many_ranks_as_auto_finds_work_for(server):
    """All nodes that work on ranks, with none chosen."""
    long_video = subjects()["VideoInfinityLongVideo"]["node"]
    long_video["inputs"]["frames"] = 1
    prompt = {
        **copy.deepcopy(SOURCES),
        "long_video": long_video,
        "encode": ours("ClipParallelEncode", model=("model", 0), images=("long_video", 0)),
        "sampler": sampler(width=0, height=0, frames=0, denoise=0.5, steps=2, latent=("encode", 0)),
        "decode": ours("ClipParallelDecode", model=("model", 0), latent=("sampler", 0)),
        "saved": save_images(("decode", 0), "one_frame"),
        "long_video fps": node("PreviewAny", source=("long_video", 2)),
        "sampler fps": node("PreviewAny", source=("sampler", 1)),
    }
    prompt["sampler"]["inputs"]["fps"] = 12.5
    del prompt["sampler"]["inputs"]["ranks"]
    seen = server.run(prompt)
    assert seen.end == "execution_success", seen.detail
    assert saved(server, "one_frame").shape == (1, 64, 64, 3)
    assert [seen.outputs[f"{name} fps"]["text"] for name in ("long_video", "sampler")] == [["8.0"], ["12.5"]]


def test_one_picture_starts_a_video(server):
    """As an IMAGE of any size, and as a LATENT of one frame; the sizes that are 0 are those of what is connected."""
    encode = ours("ClipParallelEncode", model=("model", 0), images=("fitting", 0), ranks=("ranks", 0))
    prompt = {
        **copy.deepcopy(ONE_RANK),
        "picture": node("LoadImage", image=clip(server, "one.webp", 1, size=96)),
        "fitting": node("ImageScale", image=("picture", 0), upscale_method="lanczos", width=64, height=64, crop="center"),
        "encoded": encode,
        "from_image": sampler(denoise=0.5, steps=4, image=("picture", 0)),
        "from_latent": sampler(denoise=0.5, steps=4, latent=("encoded", 0), width=0, height=0),
    }
    for name in ("from_image", "from_latent"):
        prompt[f"{name} saved"] = save_latent((name, 0), name)
    seen = server.run(prompt)
    assert seen.end == "execution_success", seen.detail
    image, latent = (stored(server, name) for name in ("from_image", "from_latent"))
    assert image.shape == (4, 4, 8, 8) and image.std() > 0.1
    assert (image - latent).abs().max() < 1e-3


def test_comfyuis_memory_manager_lets_a_run_end_that_is_under_way_and_then_ends_the_ranks(server):
    prompt = quick(seed=67, steps=6)
    prompt["ranks"]["inputs"]["devices"] = "cpu"  # that of the test before, which is warm
    listen = once(server, "/free", lambda node, share: node == "sampler" and share > 0.2)
    assert server.run(prompt, listen).end == "execution_success"
    server.free()  # returns when there are none


def test_a_cancel_while_the_ranks_start_leaves_none_and_a_cold_run_says_what_it_does_on_the_node_and_on_the_console(server):
    server.free()
    with ThreadPoolExecutor() as threads:
        run = threads.submit(server.run, quick(seed=65, steps=400))
        began = threading.Event()
        while not (started := server.ranks()):
            began.wait(0.05)
        server.post("/interrupt", {})
        assert run.result().end == "execution_interrupted"
    assert all(ends(pid, 30) for pid in started)
    before = len(server.log.read_text())
    prompt = quick(seed=50, frames=12)
    prompt["scope"]["inputs"].update(local_context=1, global_frames=0, model_frames=8)
    seen = server.run(prompt)
    assert seen.end == "execution_success", seen.detail
    notice, *texts = [text for node, text in seen.texts if node == "sampler"]
    assert notice.startswith("a frame attends to 3 frames; a model that was trained on 8 wants 6 to 20: ")
    assert all(text.startswith(f"{notice}\n") for text in texts), "a notice is not overwritten"
    lines = [text.removeprefix(f"{notice}\n") for text in texts]
    wanted = ["starting 2 ranks on cpu", "loading moving-shapes (bundled)", "encoding", "step 0 of 2"]
    assert lines[: len(wanted)] == wanted
    assert lines[-1].startswith("done in ")
    console = server.log.read_text()[before:]
    for line in (*wanted, "done in "):
        assert f"Video Infinity: {line}" in console
    decoder = [text for node, text in seen.texts if node == "decode"]
    assert any(text.startswith("decoding") for text in decoder) and decoder[-1].startswith("done in ")
    assert not [text for text in decoder if "step" in text]
