"""How fast frames get from ranks to the IMAGE: `python -m benchmarks.hand_over`

500 frames of 512x320 from two processes, which write their clips as sampler/decode.py does, a few at a time from float32
pictures (F, C, H, W), into the shared block whose tensor is the IMAGE. The clock runs from the first write until the host holds
it. The host's own memory tells whether there is a second copy.
"""

import resource
import statistics
import time
from pathlib import Path

import torch

from benchmarks import two_ranks
from benchmarks.claims import Claim, report
from parallel.comm.group import Group
from parallel.families.unet3d import UNet3D
from parallel.maths import clips
from parallel.sampler.decode import write_frames
from parallel.wire.blocks import Block, attach
from parallel.wire.messages import BlockHandle

FRAMES, HEIGHT, WIDTH = 500, 320, 512
AT_ONCE = UNet3D.decoded_at_once
REPEATS = 5


def hand_over(group: Group, handle: BlockHandle) -> tuple[float, float]:
    """Write this rank's clip; return when it began and when it was through, by the machine's clock."""
    clip = clips.cut(FRAMES, group.size)[group.rank]
    out_FHWC = attach(handle)[clip.start : clip.stop]
    images = torch.rand(AT_ONCE, 3, HEIGHT, WIDTH) * 2 - 1  # as the VAE leaves them
    torch.distributed.barrier()
    began = time.monotonic()
    for start in range(0, len(clip), AT_ONCE):
        places = range(start, min(start + len(images), len(clip)))
        write_frames(images[: len(places)], out_FHWC, places)
    return began, time.monotonic()


def private_bytes() -> int:
    """Return the host's resident memory that is its own and not shared."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * resource.getpagesize()


def main() -> int:
    began = time.perf_counter()
    size = FRAMES * HEIGHT * WIDTH * 3 * 4
    rates, copies = [], []
    for _ in range(REPEATS):
        before = private_bytes()
        with Block((FRAMES, HEIGHT, WIDTH, 3), "float32") as block:
            times = two_ranks.run(hand_over, block.handle)
            image = block.tensor
        assert 0 < image[0].mean() < 1 and 0 < image[-1].mean() < 1
        rates.append(size / (max(end for _, end in times) - min(start for start, _ in times)) / 1e9)
        copies.append((private_bytes() - before) / size)
    details = {"GB": size / 1e9, "second copies in the host": max(copies)}
    report("hand_over", [Claim("hand-over", statistics.median(rates), ">= 2", details)], began, rates=rates)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
