"""The list of nodes, as ComfyUI asks for it."""

from comfy_api.latest import ComfyExtension, io

from .decode import ClipParallelDecode
from .decode_to_video import ClipParallelDecodeToVideo
from .encode import ClipParallelEncode
from .keyframes import KeyframesNode
from .long_video import LongVideo
from .lora import VideoLora
from .model import LoadVideoModel
from .ranks import WorkerRanks
from .sampler import ClipParallelSampler
from .scope import DualScopeAttention
from .speed_memory import SpeedAndMemory
from .timeline import PromptTimeline
from .video_plan import VideoPlan


class VideoInfinity(ComfyExtension):
    """The pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return every node of the pack."""
        return [
            LongVideo,
            LoadVideoModel,
            VideoLora,
            WorkerRanks,
            DualScopeAttention,
            SpeedAndMemory,
            PromptTimeline,
            KeyframesNode,
            ClipParallelSampler,
            ClipParallelDecode,
            ClipParallelDecodeToVideo,
            ClipParallelEncode,
            VideoPlan,
        ]
