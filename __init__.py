"""Video Infinity: long videos on many GPUs. Hands the nodes to ComfyUI, and nothing else."""

WEB_DIRECTORY = "./web"  # help pages; `[tool.comfy] web` would serve them under the project's name, where no page is looked for


async def comfy_entrypoint():
    """Return the pack's extension; ComfyUI calls this once, at its start."""
    from .nodes.extension import VideoInfinity

    return VideoInfinity()
