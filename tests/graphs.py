"""Prompts for ComfyUI in API format: each node of the pack with all of its widgets, and what it needs."""

import copy

from tests.test_comfyui import NODES


def node(kind: str, **inputs) -> dict:
    """Return a node in API format; a tuple is a link."""
    return {
        "class_type": kind,
        "inputs": {name: list(value) if isinstance(value, tuple) else value for name, value in inputs.items()},
    }


def ours(kind: str, **inputs) -> dict:
    return node(f"VideoInfinity{kind}", **inputs)


NO_FILES = dict.fromkeys(("model_low", "vae", "text_encoder", "clip_vision"), "none")
SOURCES = {
    "model": ours(
        "LoadVideoModel", model="moving-shapes (bundled)", parts="the same folder", dtype="float32", offload="none", **NO_FILES
    ),
    "ranks": ours("WorkerRanks", devices="cpu,cpu", threads=0, keep_warm=True),  # those of other tests, which are warm
    "timeline": ours("PromptTimeline", timeline="0: a red circle", fade=0, negative=""),
    "scope": ours(
        "DualScopeAttention",
        local_context=8,
        global_frames="auto",
        local_bias_early=0.0,
        local_bias_late=0.0,
        global_bias_early=0.0,
        global_bias_late=0.0,
        phase_timestep=800,
        ramp=False,
        trained_frames=0,
        model_frames="auto",
        places="near",
        rotate=False,
        full_windows=False,
    ),
    "tuning": ours(
        "SpeedMemory",
        branches="auto",
        park_skips="auto",
        frames_at_once=0,
        pixels_at_once=0,
        stale_after=0,
        stale_for=8,
        reuse_every=1,
        compile=False,
        travel="auto",
    ),
}


LORA = "subject.safetensors"  # of the bundled Wan, which the server's fixture writes
SIZE = {"width": 64, "height": 64, "frames": 4}


LINKS = {name: (name, 0) for name in ("model", "timeline", "ranks")}


TWO_NETS = {"cfg_low_noise": 0.0, "shift": 0.0}


SAMPLING = {"fps": 8.0, "steps": 1, "cfg": 1.0, "scheduler": "model", "seed": 4, "loop": False, "denoise": 1.0}


def sampler(**change) -> dict:
    return ours(
        "ClipParallelSampler", **LINKS | SIZE | SAMPLING | TWO_NETS | {"noise": "independent", "noise_share": 0.5} | change
    )


def long_video(**change) -> dict:
    widgets = {
        "model": "moving-shapes (bundled)",
        "prompt": "a red circle",
        "seed": 4,
        "steps": 20,
        "cfg": 0.0,
        "output": "images",
    }
    return ours("LongVideo", **SIZE | widgets | change)


def subjects() -> dict[str, dict]:
    """Return a prompt for each node of the pack, with every one of its widgets; it stands under the name `node`."""
    planned = {"fps": 8.0, "steps": 1, "cfg": 1.0, "scheduler": "model", "loop": False, "frame": 0, "planned_ranks": 1}
    plan = ours("VideoPlan", **LINKS | SIZE | planned | TWO_NETS)
    latent = node("EmptyLatentImage", width=64, height=64, batch_size=4)
    pixels = node("EmptyImage", width=64, height=64, batch_size=4, color=0)
    model_ranks = {name: LINKS[name] for name in ("model", "ranks")}
    special = {
        "LongVideo": {"node": long_video()},
        "ClipParallelSampler": {**SOURCES, "node": sampler()},
        "ClipParallelDecode": {
            **SOURCES,
            "latent": latent,
            "node": ours("ClipParallelDecode", **model_ranks, latent=("latent", 0)),
        },
        "ClipParallelDecodeToVideo": {
            **SOURCES,
            "latent": latent,
            "node": ours("ClipParallelDecodeToVideo", **model_ranks, latent=("latent", 0), fps=8.0),
        },
        "ClipParallelEncode": {
            **SOURCES,
            "images": pixels,
            "node": ours("ClipParallelEncode", **model_ranks, images=("images", 0)),
        },
        "VideoPlan": {**SOURCES, "node": plan},
        "VideoLora": {
            "model": ours("LoadVideoModel", **{**SOURCES["model"]["inputs"], "model": "moving-shapes-wan (bundled)"}),
            "node": ours("VideoLora", model=("model", 0), lora=LORA, strength=1.0, net="all"),
        },
        "Keyframes": {"images": pixels, "node": ours("Keyframes", images=("images", 0), at="0,1s,2,last", strength=1.0)},
    }
    single = {source["class_type"]: {"node": source} for source in SOURCES.values()}
    prompts = single | {f"VideoInfinity{name}": prompt for name, prompt in special.items()}
    assert set(prompts) == set(NODES)
    return {
        name: {**copy.deepcopy(prompt), "shown": node("PreviewAny", source=("node", 0))} for name, prompt in prompts.items()
    }
