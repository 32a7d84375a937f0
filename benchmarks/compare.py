"""Against what else a user would run: `python -m benchmarks.compare`

On the standard bench's UNet and the same frames, one thread, one UNet call with CFG: diffusers' stock model over the whole video,
over independent clips, over overlapping windows that are averaged (16 frames, 8 shared, as ComfyUI's context windows), with
diffusers' FreeNoise blocks in its temporal transformers, and ours on one rank. Seconds a frame, the most bytes of activations
alive, and the longest video that 8 GB hold, from a line through two lengths.
"""

import time
from collections.abc import Callable

import torch
from diffusers import UNet3DConditionModel
from diffusers.models.attention import BasicTransformerBlock, FreeNoiseTransformerBlock

from benchmarks import standard
from benchmarks.claims import Claim, report
from harness.live import LiveBytes
from parallel.comm.group import Group
from parallel.layers.attention import Biases
from parallel.layers.patch import patched
from parallel.layers.view import View
from parallel.maths.scope import Span
from parallel.models import unet3d

LATENT = 16
LENGTHS = (48, 96, 192)
WINDOW, OVERLAP = 16, 8
ROOM = 8e9
Way = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def whole(unet: UNet3DConditionModel) -> Way:
    """The stock model, all frames at once."""
    return lambda video, text: unet(video, 500, encoder_hidden_states=text).sample


def clips(unet: UNet3DConditionModel) -> Way:
    """Clips that know nothing of each other."""
    return lambda video, text: torch.cat([whole(unet)(clip, text) for clip in video.split(WINDOW, dim=2)], dim=2)


def windows(unet: UNet3DConditionModel) -> Way:
    """Windows that overlap, each frame the mean of those that hold it, weighted towards a window's middle."""

    def run(video: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        frames = video.shape[2]
        starts = sorted({*range(0, max(1, frames - WINDOW), WINDOW - OVERLAP), max(0, frames - WINDOW)})
        weight = torch.minimum(torch.arange(1, WINDOW + 1), torch.arange(WINDOW, 0, -1)).float()[:, None, None]
        total, weights = torch.zeros_like(video), torch.zeros(frames, 1, 1)
        for start in starts:
            some = slice(start, start + WINDOW)
            total[:, :, some] += weight * whole(unet)(video[:, :, some], text)
            weights[some] += weight
        return total / weights

    return run


def free_noise(unet: UNet3DConditionModel) -> Way:
    """FreeNoise's windowed attention (16 frames, stride 4) in the temporal transformers of a copy of the model."""
    copy = standard.unet()
    copy.load_state_dict(unet.state_dict())
    for module in list(copy.modules()):
        if type(module).__name__ == "TransformerTemporalModel":
            for place, block in enumerate(module.transformer_blocks):
                module.transformer_blocks[place] = free_noise_block(block)
    return whole(copy)


def free_noise_block(block: BasicTransformerBlock) -> FreeNoiseTransformerBlock:
    """Return diffusers' FreeNoise block with another's weights."""
    attn = block.attn1
    new = FreeNoiseTransformerBlock(
        dim=block.dim,
        num_attention_heads=attn.heads,
        attention_head_dim=attn.inner_dim // attn.heads,
        context_length=WINDOW,
        context_stride=4,
        double_self_attention=True,
        activation_fn="geglu",
    )
    new.load_state_dict(block.state_dict())
    return new.eval()


def ours(unet: UNet3DConditionModel) -> Way:
    """Dual-scope attention, in slices."""

    def run(video: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        view = View(Group(0, 1, video.device), Span(video.shape[2], standard.LOCAL, standard.GLOBAL))
        with patched(unet3d.frame_changes(unet, view, Biases(view))):
            return unet(video, 500, encoder_hidden_states=text).sample

    return run


WAYS = {
    "stock, whole video": whole,
    "independent clips": clips,
    "overlapping windows": windows,
    "FreeNoise": free_noise,
    "ours": ours,
}


@torch.inference_mode()
def main() -> int:
    began = time.perf_counter()
    torch.set_num_threads(1)
    unet = standard.unet()
    ways = {name: make(unet) for name, make in WAYS.items()}
    seconds: dict[str, dict[int, float]] = {name: {} for name in ways}
    memory: dict[str, dict[int, int]] = {name: {} for name in ways}
    for frames in LENGTHS:
        video, text = standard.call(frames, LATENT)
        for name, way in ways.items():
            with LiveBytes(known=[*unet.parameters(), video, text]) as live:
                way(video, text)  # also not timed: the first call of all
            memory[name][frames] = live.peak
        for name, way in ways.items():
            called = time.perf_counter()
            way(video, text)
            seconds[name][frames] = (time.perf_counter() - called) / frames
    few, many = LENGTHS[-2:]
    rows = {}
    for name in ways:
        each = (memory[name][many] - memory[name][few]) / (many - few)
        besides = memory[name][many] - each * many
        rows[name] = {
            "seconds a frame": seconds[name],
            "peak MB": {frames: value / 1e6 for frames, value in memory[name].items()},
            "largest T in 8 GB": int((ROOM - besides) / max(each, 1.0)),
        }
        print(name, rows[name], flush=True)
    pace = seconds["ours"][many] / seconds["overlapping windows"][many]
    lean = memory["ours"][many] / memory["stock, whole video"][many]
    claims = [
        Claim("faster than overlapping windows", pace, "<= 1.0"),
        Claim("leaner than the stock model over the whole video", lean, "<= 1.0"),
    ]
    report("compare", claims, began, rows=rows, latent=LATENT)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
