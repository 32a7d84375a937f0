"""Video Infinity: long videos on many GPUs. Hands the nodes to ComfyUI, and nothing else."""


async def comfy_entrypoint():
    """Return the pack's extension; ComfyUI calls this once, at its start."""
    from .nodes.extension import VideoInfinity

    return VideoInfinity()
