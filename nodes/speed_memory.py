"""Speed and Memory: how a video is made, when the defaults do not fit the machine."""

from comfy_api.latest import io

from ..parallel.job.job import Tuning as TuningSettings
from ..parallel.job.job import checked
from .sockets import CATEGORY, Tuning
from .widgets import checks_widgets


def _count(name: str, default: int, allowed: range, what: str) -> io.Int.Input:
    return io.Int.Input(name, default=default, min=allowed.start, max=allowed.stop - 1, tooltip=what)


class SpeedAndMemory(io.ComfyNode):
    """Trade memory for speed, and with two settings a little of the picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        default = TuningSettings()
        return io.Schema(
            node_id="VideoInfinitySpeedMemory",
            display_name="Speed and Memory",
            category=CATEGORY,
            description="Trades memory for speed. Only stale_after and reuse_every change the video; the rest leaves it as it is.",
            search_aliases=["out of memory", "low vram", "faster", "offload", "torch compile", "deepcache"],
            inputs=[
                io.Combo.Input(
                    "branches",
                    options=["auto", "together", "apart"],
                    default=default.branches,
                    tooltip="cfg's two calls of the net: `apart` one after the other, half the memory; `auto` when memory is short.",
                ),
                io.Combo.Input(
                    "park_skips",
                    options=["auto", "never", "always"],
                    default=default.park_skips,
                    tooltip="Skip tensors wait in host memory: half the memory again, a little slower; `auto` when the GPU's is short and the "
                    "host's is not.",
                ),
                _count(
                    "frames_at_once",
                    0,
                    range(100_001),
                    "Frames that a spatial layer works on at once; 0: what suits the device.",
                ),
                _count(
                    "pixels_at_once",
                    0,
                    range(1_000_001),
                    "Latent pixels that a layer over frames works on at once; 0: what suits the device.",
                ),
                _count(
                    "stale_after",
                    0,
                    range(1001),
                    "After so many exact steps, use what other ranks sent some steps ago: faster on slow links, "
                    "changes the video a little; 0: never.",
                ),
                _count("stale_for", default.stale_for, range(1, 1001), "For how many steps what other ranks sent is used."),
                _count(
                    "reuse_every",
                    default.reuse_every,
                    range(1, 101),
                    "Run a UNet's deep layers only every so many steps: faster, changes the video; 1: always.",
                ),
                io.Boolean.Input(
                    "compile",
                    default=default.compile,
                    tooltip="torch.compile on GPUs: a slow first run, faster ones after it.",
                ),
                io.Combo.Input(
                    "travel",
                    options=["auto", "hidden_states", "keys_values"],
                    default=default.travel,
                    optional=True,
                    tooltip="What ranks send each other for 3D attention, as of Wan: hidden states, or keys and values, which are "
                    "twice the bytes and spare some compute; `auto`: what link and devices make faster.",
                ),
            ],
            outputs=[Tuning.Output("tuning", tooltip="For the sampler's or the plan's `tuning`.")],
        )

    @classmethod
    @checks_widgets
    def execute(cls, frames_at_once: int, pixels_at_once: int, stale_after: int, **widgets) -> io.NodeOutput:
        optional = {"frames_at_once": frames_at_once, "pixels_at_once": pixels_at_once, "stale_after": stale_after}
        unset = {name: value or None for name, value in optional.items()}
        return io.NodeOutput(checked(TuningSettings, **unset, **widgets))
