"""Worker Ranks: which devices work on the video together."""

from comfy_api.latest import io

from ..parallel.pool.devices import resolve
from . import host
from .sockets import CATEGORY, Ranks, RanksChoice
from .widgets import checks_widgets


class WorkerRanks(io.ComfyNode):
    """Choose the devices; each is one rank, a process of its own."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoInfinityWorkerRanks",
            display_name="Worker Ranks",
            category=CATEGORY,
            description="Chooses the GPUs (or CPU ranks) that make a video together. Their number changes the speed, never the video.",
            search_aliases=["video infinity gpus", "multi gpu", "devices", "distributed"],
            inputs=[
                io.String.Input(
                    "devices",
                    default="auto",
                    tooltip="auto (every GPU, else two CPU ranks), or one device a rank: cuda:0,cuda:1 or cpu,cpu.",
                ),
                io.Int.Input("threads", default=0, min=0, max=256, tooltip="Threads of each CPU rank; 0 shares the cores out."),
                io.Boolean.Input(
                    "keep_warm",
                    default=True,
                    tooltip="Keep the ranks and their model loaded for the next run. ComfyUI ends them when it needs the memory.",
                ),
            ],
            outputs=[Ranks.Output("ranks", tooltip="Where to run; for the sampler, decode and encode nodes.")],
        )

    @classmethod
    def validate_inputs(cls, devices: str | None) -> bool | str:
        """Refuse a device that is not there."""
        return devices is None or host.refused(lambda: resolve(devices))

    @classmethod
    @checks_widgets
    def execute(cls, devices: str, threads: int, keep_warm: bool) -> io.NodeOutput:
        resolve(devices)
        return io.NodeOutput(RanksChoice(devices=devices, threads=threads, keep_warm=keep_warm))
