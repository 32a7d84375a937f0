"""A UNet over frames as numbers, from its configuration alone: layers that mix frames, what they exchange, what a frame keeps alive."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..job.job import Frozen
from .frame_layer import FrameLayer

INNER_HEADS = 8  # of diffusers' first temporal transformer, whatever the rest has


class UNetShape(Frozen):
    """The sizes of a `UNet3DConditionModel`, under diffusers' names and with its defaults."""

    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    attention_head_dim: int = 64
    norm_num_groups: int = 32
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",)
    up_block_types: tuple[str, ...] = ("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 3

    def frame_layers(self) -> dict[str, int]:
        """Return how many layers of each kind mix frames."""
        depth = self.layers_per_block
        blocks = [(kind, depth) for kind in self.down_block_types] + [(kind, depth + 1) for kind in self.up_block_types]
        convolutions = 2 + sum(layers for _, layers in blocks)  # the middle block has two, each of four convolutions
        transformers = 2 + sum(layers for kind, layers in blocks if kind.startswith("CrossAttn"))  # the first layer, the middle
        return {"norm": transformers, "attention": 2 * transformers, "convolution": 4 * convolutions}


def count_messages(shape: UNetShape) -> int:
    """Return the exchanges of one UNet call: one a convolution with its norm, one an attention, the first with its norm."""
    layers = shape.frame_layers()
    return layers["convolution"] + layers["attention"]


def exchanges(shape: UNetShape, height: int, width: int) -> list[FrameLayer]:
    """Return the exchanges of one UNet call, for latents of a size, in no order."""
    levels = range(len(shape.block_out_channels))
    pixels = [-(-height // 2**level) * -(-width // 2**level) for level in levels]
    channels, depth = shape.block_out_channels, shape.layers_per_block
    found = _attentions(channels[0], INNER_HEADS * shape.attention_head_dim, pixels[0])
    for level in levels:
        up = shape.up_block_types[len(levels) - 1 - level]
        for kind, layers in ((shape.down_block_types[level], depth), (up, depth + 1)):
            size, attends = (channels[level], pixels[level]), kind.startswith("CrossAttn")
            found += (_convolutions(*size) + (_attentions(channels[level], *size) if attends else [])) * layers
    middle = channels[-1], pixels[-1]
    return found + 2 * _convolutions(*middle) + _attentions(channels[-1], *middle)


def _convolutions(width: int, pixels: int) -> list[FrameLayer]:
    return [FrameLayer("convolution", width * pixels, True)] * 4


def _attentions(raw: int, hidden: int, pixels: int) -> list[FrameLayer]:
    keys_values, entry = 4 * hidden * hidden * pixels, 2 * raw * hidden * pixels
    return [
        FrameLayer("attention", raw * pixels, True, entry + keys_values),
        FrameLayer("attention", hidden * pixels, False, keys_values),
    ]


@dataclass(frozen=True)
class Instant:
    """What a frame keeps alive while one layer of a UNet works, in numbers."""

    at_work: int  # the layer's input and output
    waiting: int  # skip tensors, for the way up


def peak_numbers(shape: UNetShape, pixels: int, *, offload_skips: bool) -> int:
    """Return how many numbers a frame keeps alive at the fullest instant of a UNet call, of `pixels` latent pixels.

    With `offload_skips` skip tensors wait elsewhere.
    """
    instants = [*_on_the_way_down(shape, pixels), *_on_the_way_up(shape, pixels)]
    return max(instant.at_work + (0 if offload_skips else instant.waiting) for instant in instants)


def _on_the_way_down(shape: UNetShape, pixels: int) -> Iterator[Instant]:
    """Yield the fullest instants up to the middle, one for each skip tensor: the layer that makes the next one, or what follows it.

    As layers/activation.py frees tensors: a layer over frames keeps its input and what it makes of it, in the width of its
    attention; a skip tensor that a layer reads for the first time is at work, and does not wait yet.
    """
    first, *others = skip_numbers(shape, pixels)
    inner = INNER_HEADS * shape.attention_head_dim * pixels
    yield Instant(first + max(first, inner), 0)  # the first temporal transformer: its input, and that in its own width
    x, waiting = first, 0
    for out in others:
        # A layer that makes `out` of x, or one that follows it in the same block and makes as much of `out`. By then x waits: that
        # is left out, since the way up is fuller in any case.
        yield Instant(max(x + out, 2 * out), waiting)
        x, waiting = out, waiting + x
    yield Instant(2 * x, waiting)  # the middle block's layers, while the last skip tensor is their input


def _on_the_way_up(shape: UNetShape, pixels: int) -> Iterator[Instant]:
    """Yield the fullest instants from the middle to the end: layers that each use up a skip tensor, then one that doubles the size."""
    sizes, skips = _level_pixels(shape, pixels), skip_numbers(shape, pixels)
    x, waiting = skips[-1], sum(skips)
    for level, width in reversed(list(enumerate(shape.block_out_channels))):
        out = width * sizes[level]
        for _ in range(shape.layers_per_block + 1):
            yield Instant(x + out, waiting)  # a layer that makes `out` of x and of the skip tensor, which still waits
            x, waiting = out, waiting - skips.pop()
            yield Instant(2 * x, waiting)  # one that follows it, and makes as much of x
        if level:
            out = width * sizes[level - 1]
            yield Instant(x + out, waiting)  # the upsampler, which keeps the width that the level had
            x = out


def skip_numbers(shape: UNetShape, pixels: int) -> list[int]:
    """Return how many numbers a frame has in each skip tensor, in the order in which they are made."""
    channels, sizes = shape.block_out_channels, _level_pixels(shape, pixels)
    found = [channels[0] * pixels]
    for level, width in enumerate(channels):
        found += [width * sizes[level]] * shape.layers_per_block
        if level + 1 < len(channels):
            found.append(width * sizes[level + 1])
    return found


def _level_pixels(shape: UNetShape, pixels: int) -> list[int]:
    """Return how many pixels a frame has on each level: each halves height and width."""
    return [pixels >> 2 * level for level in range(len(shape.block_out_channels))]
