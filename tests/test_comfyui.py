"""The pack in a real ComfyUI server: nodes, runs, previews, cancel, memory, errors."""

import copy
import json

import av
import diffusers
import numpy as np
import pytest
from packaging.version import Version
from PIL import Image, ImageSequence

from harness.comfyui import PACK, Server
from harness.places import BUNDLED, ROOT
from parallel.job import timeline
from parallel.job.job import Job, Scope, checked

VIDEO_WORKFLOWS = [
    "first_long_video", "image_to_long_video", "prompt_timeline", "refine_video", "wan_first_last_frame", "wan_image_to_video",
    "wan_keyframes", "wan_text_to_video",
]  # fmt: skip
FILE_WORKFLOWS = ["wan22_image_to_long_video", "wan22_keyframes", "wan22_refine_video", "wan22_text_to_long_video"]
NODES = [
    "VideoInfinityLongVideo",
    "VideoInfinityLoadVideoModel",
    "VideoInfinityVideoLora",
    "VideoInfinityWorkerRanks",
    "VideoInfinityDualScopeAttention",
    "VideoInfinitySpeedMemory",
    "VideoInfinityPromptTimeline",
    "VideoInfinityKeyframes",
    "VideoInfinityClipParallelSampler",
    "VideoInfinityClipParallelDecode",
    "VideoInfinityClipParallelDecodeToVideo",
    "VideoInfinityClipParallelEncode",
    "VideoInfinityVideoPlan",
]


def shipped(name: str) -> dict:
    """Return a workflow as it is shipped, in API format."""
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text())


def short(name: str, **sampler) -> dict:
    """Return a shipped workflow, cut to a length that suits a test, with other values on its samplers, saved without loss."""
    prompt = shipped(name)
    images = prompt["video"]["inputs"]["images"]
    lossless = {"filename_prefix": name, "fps": 8.0, "lossless": True, "quality": 90, "method": "default"}
    prompt["lossless"] = {"class_type": "SaveAnimatedWEBP", "inputs": {"images": images, **lossless}}
    for node in prompt.values():
        node["inputs"].update({"frames": 12} if "frames" in node["inputs"] else {})
        node["inputs"].update({"steps": 4} if "steps" in node["inputs"] else {})
        if node["class_type"] == "VideoInfinityPromptTimeline":
            node["inputs"]["timeline"] = node["inputs"]["timeline"].replace("48:", "6:")
        if node["class_type"] == "VideoInfinityKeyframes":
            node["inputs"]["at"] = node["inputs"]["at"].replace("48", "6")
        if node["class_type"] == "VideoInfinityClipParallelSampler":
            node["inputs"].update(sampler)
        if node["class_type"] == "VideoInfinityWorkerRanks":
            node["inputs"].update(devices="cpu,cpu")  # as `auto` is on CPUs, so that all tests share the warm ranks
    return prompt


def quick(**sampler) -> dict:
    """Return the workflow of all parts, of few small frames, for what looks at no picture."""
    return short("prompt_timeline", **{"frames": 8, "height": 32, "width": 32, "steps": 2, **sampler})


def saved(server: Server, prefix: str) -> np.ndarray:
    """Return the frames of the newest file that a workflow saved, (F, H, W, 3) uint8."""
    file = max((server.base / "output").glob(f"{prefix}_*.webp"), key=lambda path: path.stat().st_mtime_ns)
    with Image.open(file) as picture:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)])


def test_the_pack_is_imported_without_a_warning_and_no_rank_runs(server):
    """And brings in none of the libraries that its ranks need (harness/comfyui_launch.py)."""
    known = server.get("/object_info")
    assert [node for node in NODES if node not in known] == []
    said = server.log.read_text()
    assert "IMPORT FAILED" not in said and "VideoInfinity" in said and f"{PACK} imports" not in said
    ours = [line for line in said.splitlines() if "VideoInfinity" in line or "video_infinity" in line]
    assert not [line for line in ours if "WARN" in line or "ERROR" in line]
    assert server.ranks() == []


def test_the_plan_is_shown_without_a_rank(server):
    server.free()
    seen = server.run(shipped("plan_only"))
    assert seen.end == "execution_success", seen.detail
    (words,) = seen.outputs["words"]["text"]
    assert "240 frames of 64x64 (30.0 s at 8 fps) on 4 ranks, 60 frames each" in words
    assert "frame 100 attends to 17 frames near it and 15 more over the whole video; 12 of them are on other ranks" in words
    assert "frames 144 to 239: a green ring" in words
    assert "of skip tensors, if a GPU's memory is short" in words
    file = seen.outputs["picture"]["images"][0]
    with Image.open(server.base / "temp" / file["filename"]) as picture:
        assert picture.size == (1280, 384)
        assert len(picture.getcolors(100_000)) > 20
    assert server.ranks() == []


@pytest.mark.parametrize("workflow", VIDEO_WORKFLOWS)
def test_a_shipped_workflow_runs_to_its_end(server, workflow):
    prompt = short(workflow)
    if "wan" in workflow and Version(diffusers.__version__) < Version("0.35"):
        seen = server.run(prompt)
        assert "needs diffusers 0.35 or newer" in seen.detail["exception_message"]
        pytest.skip("the bundled Wan's VAE can't be built by this diffusers, which was said in words")
    seen = server.run(prompt)
    assert seen.end == "execution_success", seen.detail
    frames = saved(server, workflow)
    assert frames.shape == (12, 64, 64, 3) and frames.std() > 1
    file = seen.outputs["save"]["images"][0]
    with av.open(server.base / "output" / file["subfolder"] / file["filename"]) as video:
        assert sum(1 for _ in video.decode(video=0)) == 12
    samplers = [n for n, node in prompt.items() if "Sampler" in node["class_type"] or "LongVideo" in node["class_type"]]
    for node in samplers:
        shares = [share for where, share in seen.progress if where == node]
        assert shares == sorted(shares) and shares[-1] == 1.0
    assert seen.previews >= 3, "denoise 0.9 of 4 steps is the least"


def test_the_workflows_are_those_that_the_templates_list(server):
    names = sorted(server.get("/workflow_templates")[PACK])
    assert names == sorted([*VIDEO_WORKFLOWS, *FILE_WORKFLOWS, "plan_only"])
    for name in names:
        assert server.get(f"/api/workflow_templates/{PACK}/{name}.json")["nodes"]


def test_the_image_equals_the_engines_own_for_the_same_job(server, pools):
    """Longer than the 33 frames that one attends to."""
    prompt = short("prompt_timeline", frames=36, steps=2)
    told = shipped("prompt_timeline")["timeline"]["inputs"]["timeline"].replace("48:", "18:")
    prompt["timeline"]["inputs"]["timeline"] = told
    assert server.run(prompt).end == "execution_success"
    job = checked(
        Job,
        model=str(BUNDLED),
        prompts=timeline.parse(told, fps=8, frames=36),
        fade=4,
        frames=36,
        height=64,
        width=64,
        num_inference_steps=2,
        guidance_scale=3.0,
        seed=4,
        scope=Scope(local_context=8, global_frames=16),
    )
    expected = (pools(1).run(job).frames.numpy() * 255).round().astype(int)
    assert np.abs(saved(server, "prompt_timeline").astype(int) - expected).max() <= 1


def test_speed_and_memory_leave_the_video_as_it_is(server):
    prompt = quick(steps=3)
    server.run(prompt)
    plain = saved(server, "prompt_timeline")
    widgets = {"branches": "apart", "park_skips": "always", "frames_at_once": 2, "pixels_at_once": 0, "stale_after": 0}
    widgets |= {"stale_for": 8, "reuse_every": 1, "compile": False}
    prompt["tuning"] = {"class_type": "VideoInfinitySpeedMemory", "inputs": widgets}
    for node in prompt.values():
        if node["class_type"] == "VideoInfinityKeyframes":
            node["inputs"]["at"] = node["inputs"]["at"].replace("48", "6")
        if node["class_type"] == "VideoInfinityClipParallelSampler":
            node["inputs"]["tuning"] = ["tuning", 0]
    server.run(prompt)
    tuned = saved(server, "prompt_timeline")
    assert np.abs(tuned.astype(int) - plain.astype(int)).max() <= 1
    widgets["reuse_every"] = 2
    server.run(prompt)
    assert np.abs(saved(server, "prompt_timeline").astype(int) - plain.astype(int)).max() > 1


def test_noise_is_a_choice_that_older_workflows_need_not_make(server):
    made = {}
    for kind in (None, "independent", "shuffled", "mixed"):
        prompt = quick(steps=1, noise=kind)
        if kind is None:  # as it was before there was a choice
            del prompt["sampler"]["inputs"]["noise"], prompt["sampler"]["inputs"]["noise_share"]
        assert server.run(prompt).end == "execution_success"
        made[kind] = saved(server, "prompt_timeline").astype(int)
    assert (made[None] == made["independent"]).all()
    assert (made[None] == made["shuffled"]).all(), "8 frames are fewer than the 16 that have their own noise"
    assert np.abs(made[None] - made["mixed"]).max() > 10


def test_cancel_ends_the_run_within_a_step_and_says_so_the_ranks_stay_warm_and_no_memory_is_lost(server):
    server.run(quick(seed=20))
    ranks, memory = server.ranks(), server.memory()
    assert len(ranks) == 2
    seen = server.run_and_cancel(quick(steps=400, seed=21), "sampler")
    assert seen.end == "execution_interrupted" and seen.detail["node_type"] == "VideoInfinityClipParallelSampler"
    assert seen.progress[-1][1] < 0.5
    assert seen.texts[-1] == ("sampler", "stopped")
    assert server.ranks() == ranks
    assert server.run(quick(seed=22)).end == "execution_success"
    assert server.ranks() == ranks
    assert server.memory() < 1.05 * memory


def test_after_a_cancel_while_decoding_the_next_run_works_and_no_memory_is_lost(server):
    again = short("prompt_timeline", seed=23, frames=40, steps=1)
    assert server.run(again).end == "execution_success"
    memory = server.memory()
    seen = server.run_and_cancel(short("prompt_timeline", seed=24, frames=40, steps=1), "decode")
    assert seen.end == "execution_interrupted" and seen.detail["node_type"] == again["decode"]["class_type"]
    again["sampler"]["inputs"]["seed"] = 25
    assert server.run(again).end == "execution_success"
    assert len(server.ranks()) == 2
    assert server.memory() < 1.05 * memory


def test_what_did_not_change_is_not_made_again(server):
    prompt = quick(seed=30)
    server.run(prompt)
    again = server.run(copy.deepcopy(prompt))
    assert again.progress == []
    prompt["timeline"]["inputs"]["timeline"] = prompt["timeline"]["inputs"]["timeline"].replace("6: a blue", "6: a red")
    assert {node for node, _ in server.run(prompt).progress} == {"sampler", "decode"}
    del prompt["decode"]["inputs"]["ranks"]
    assert {node for node, _ in server.run(prompt).progress} == {"decode"}
