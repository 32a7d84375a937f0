"""Dual-scope attention against one dense mask: `python -m benchmarks.attention`

One clip of 288 frames, in the middle of 2,300 on 8 ranks, in VideoCrafter2's largest layer (5 heads of 64). Dense, as in the
authors' code: the logits of all of a clip's queries against all frames that any of them needs, plus one mask, of all pixels at
once. Ours: in blocks of queries, each with its own keys, over slices of pixels. Both get keys and values of all frames that
they need. For comparison, dense once more, but through torch's fused kernel.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.claims import Claim, ratio, report, take_turns
from harness.live import LiveBytes
from parallel.comm.group import Group
from parallel.layers.attention import Biases, attend_block
from parallel.layers.view import View
from parallel.maths import attention, scope
from parallel.maths.slices import Slices

HEADS, WIDTH = 5, 64
PIXELS = 128  # of 2,560: a twentieth, for all, so that it ends; both are linear in pixels
RANKS, RANK = 8, 3
LONGEST = 2300
SPAN = {"local_context": 8, "global_frames": 16}
REPEATS = 3


class Clip:
    """The middle clip of a video, with queries of its own frames and keys and values of all that it needs, (F, P, C)."""

    def __init__(self, frames: int):
        self.span = scope.Span(frames, **SPAN)
        self.view = View(Group(RANK, RANKS, torch.device("cpu")), self.span)
        self.biases = Biases(self.view)
        own, needed = len(self.view.clip), len(self.view.clip) + len(self.view.scope_route.arrivals)
        generator = torch.Generator().manual_seed(0)
        self.q, self.k, self.v = (
            torch.randn(count, PIXELS, HEADS * WIDTH, generator=generator) for count in (own, needed, needed)
        )
        order = (*self.view.clip, *self.view.scope_route.arrivals)
        self.mask = attention.logit_mask(scope.kinds(self.view.clip, order, self.span), 0.0, 0.0)

    def blocked(self) -> torch.Tensor:
        """Return (F, P, C) as layers/attention.py makes it."""
        out = torch.empty_like(self.q)
        for cut in Slices().over_pixels(PIXELS, 4 * self.k[:, 0].numel() * self.k.element_size()):
            for number, block in enumerate(self.view.query_blocks):
                start = block.queries.start - self.view.clip.start
                rows = slice(start, start + len(block.queries))
                q_PNQD = self.q[rows, cut].unflatten(-1, (HEADS, WIDTH)).permute(1, 2, 0, 3)
                k, v = ((x[: len(self.q), cut], x[len(self.q) :, cut]) for x in (self.k, self.v))
                made = attend_block(number, q_PNQD, k, v, self.biases)
                out[rows, cut] = made.permute(2, 0, 1, 3).flatten(2)
        return out

    def dense(self) -> torch.Tensor:
        """Return (F, P, C) by logits of everything."""
        q, k, v = self._all_heads()
        logits = q @ k.mT
        logits *= WIDTH**-0.5
        logits += self.mask
        return (logits.softmax(-1) @ v).permute(2, 0, 1, 3).flatten(2)

    def fused(self) -> torch.Tensor:
        """Return (F, P, C) by one call over everything."""
        return scaled_dot_product_attention(*self._all_heads(), attn_mask=self.mask).permute(2, 0, 1, 3).flatten(2)

    def _all_heads(self) -> tuple[torch.Tensor, ...]:
        return tuple(x.unflatten(-1, (HEADS, WIDTH)).permute(1, 2, 0, 3) for x in (self.q, self.k, self.v))


def peak(work: Callable[[], torch.Tensor], clip: Clip) -> int:
    """Return the most bytes alive at once, the output's included, the inputs' not."""
    with LiveBytes(known=(clip.q, clip.k, clip.v)) as live:
        work()
    return live.peak


def main() -> int:
    began = time.perf_counter()
    torch.set_num_threads(1)
    lengths, times, memory = {}, 0.0, 0.0
    for frames in (LONGEST // 4, LONGEST // 2, LONGEST):
        clip = Clip(frames)
        ways = {"blocked": clip.blocked, "dense": clip.dense, "fused": clip.fused}
        assert all(torch.allclose(clip.blocked(), way(), atol=1e-5) for way in ways.values())
        seconds = take_turns(REPEATS, **ways)
        peaks = {way: peak(work, clip) for way, work in ways.items()}
        row = {f"seconds, {way}": statistics.median(values) for way, values in seconds.items()}
        row |= {f"MB, {way}": value / 1e6 for way, value in peaks.items()}
        times, memory = ratio(seconds["blocked"], seconds["dense"]), peaks["blocked"] / peaks["dense"]
        lengths[len(clip.view.clip)] = {"time": times, "memory": memory, **row}
    claims = [
        Claim("attention", times, "<= 0.35", {"frames a clip": max(lengths), **row}),
        Claim("attention, peak memory", memory, "<= 0.35"),
    ]
    report("attention", claims, began, lengths=lengths)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
