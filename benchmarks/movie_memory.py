"""How host memory grows with a video that goes into a file as it is decoded: `python -m benchmarks.movie_memory`

The same latents, 200 and 2,000 frames of them at 256x256, on two CPU ranks, into an .mp4. What is summed is the proportional
set size of the host and all of its ranks, in which a page that several share counts once, five times a second from the first
decoded frame to the end. What grows are the latents, 1/48 of an IMAGE, of which host and ranks hold some copies; frames do not.
"""

import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import torch

from benchmarks.claims import Claim, report
from harness.jobs import job
from harness.places import BUNDLED
from harness.processes import rank_processes
from parallel.pool import Pool
from parallel.pool.movie import writing

COUNTS, SIDE, SCALE = (200, 2000), 256, 8
BETWEEN = 0.2  # seconds


def memory(pids: list[int]) -> int:
    """Return the bytes that some processes take together."""
    total = 0
    for pid in pids:
        with suppress(OSError):  # it ended
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def peak(pool: Pool, frames: int, folder: Path) -> int:
    """Return the most bytes that host and ranks take while a video goes into a file."""
    latents = torch.rand(4, frames, SIDE // SCALE, SIDE // SCALE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    decodes = job(BUNDLED, frames=frames, height=SIDE, width=SIDE, num_inference_steps=0)
    seen, over, pids = [0], threading.Event(), [0]

    def look() -> None:
        while not over.wait(BETWEEN):
            seen.append(memory(pids))

    watcher = threading.Thread(target=look)
    with writing(folder / f"{frames}.mp4", frames=frames, height=SIDE, width=SIDE, fps=8.0) as movie:
        pool.start()
        me = int(Path("/proc/self").readlink().name)
        pids[:] = [me, *rank_processes(me)]
        watcher.start()
        pool.run(decodes, init=latents, init_is_latents=True, movie=movie)
        over.set()
        watcher.join()
    return max(seen)


def main() -> int:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Pool(("cpu", "cpu"), threads=1) as pool:
        peak(pool, COUNTS[0], Path(folder))  # what is loaded once
        few, many = (peak(pool, frames, Path(folder)) for frames in COUNTS)
    more = COUNTS[1] - COUNTS[0]
    details = {
        f"MB, {COUNTS[0]} frames": few / 1e6,
        f"MB, {COUNTS[1]} frames": many / 1e6,
        "MB that an IMAGE would add": more * SIDE * SIDE * 12 / 1e6,
        "MB of latents that are added, each copy": more * 4 * (SIDE // SCALE) ** 2 * 4 / 1e6,
    }
    report("movie_memory", [Claim("movie, peak memory of 2,000 frames over 200", many / few, "<= 1.2", details)], began)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
