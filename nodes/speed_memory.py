"""Speed and Memory: how a video is made, when the defaults do not fit the machine."""

from comfy_api.latest import io

from ..parallel.protocol import Tuning as TuningSettings
from ..parallel.protocol import checked
from .sockets import CATEGORY, Tuning
from .widgets import checks_widgets


class SpeedAndMemory(io.ComfyNode):
    """Trade memory for speed, and with two settings a little of the picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
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
                    default="auto",
                    tooltip="cfg's two UNet calls: `apart` one after the other, half the memory; `auto` when memory is short.",
                ),
                io.Combo.Input(
                    "park_skips",
                    options=["auto", "never", "always"],
                    default="auto",
                    tooltip="Skip tensors wait in host memory: half the memory again, a little slower; `auto` when memory is short.",
                ),
                io.Int.Input(
                    "frames_at_once",
                    default=0,
                    min=0,
                    max=100_000,
                    tooltip="Frames that a spatial layer works on at once; 0: what suits the device.",
                ),
                io.Int.Input(
                    "pixels_at_once",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="Latent pixels that a layer over frames works on at once; 0: what suits the device.",
                ),
                io.Int.Input(
                    "stale_after",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="After so many exact steps, use what other ranks sent some steps ago: faster on slow links, "
                    "changes the video a little; 0: never.",
                ),
                io.Int.Input(
                    "stale_for", default=8, min=1, max=1000, tooltip="For how many steps what other ranks sent is used."
                ),
                io.Int.Input(
                    "reuse_every",
                    default=1,
                    min=1,
                    max=100,
                    tooltip="Run the UNet's deep layers only every so many steps: faster, changes the video; 1: always.",
                ),
                io.Boolean.Input(
                    "compile", default=False, tooltip="torch.compile on GPUs: a slow first run, faster ones after it."
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
