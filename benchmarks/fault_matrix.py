"""Every fault at every point of a job, on real ranks: does it end in the right video, or in one clear error?

{load, encode, first, middle and last step, decode, hand-over} x {SIGKILL, SIGSTOP, exception, out of memory} x {rank 0, last
rank}, on three ranks. The ranks run harness/faulty_worker.py, which is the pool's own worker but for the fault.
"""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product

from harness import faulty_worker
from harness.faulty_worker import FILE, KINDS, POINTS
from harness.processes import ends
from parallel.job.errors import RankFailed
from parallel.job.job import Job
from parallel.pool import Pool, Video
from parallel.pool.watch import Patience

SIZE = 3
LOST = ("SIGKILL", "SIGSTOP")  # what the others go on from; the rest is an error
SAID = {"exception": "a layer broke", "out of memory": "ran out of memory"}
PATIENCE = Patience(first=30, floor=2, factor=10)
HANG_SECONDS = 120
EXACT = 1e-4


@dataclass
class Tally:
    """What came of the cases. A case that is in none of the lists ended as it should."""

    cases: int = 0
    videos: int = 0
    errors: int = 0
    wrong: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def cases(rounds: int) -> list[tuple[int, str, str, int]]:
    """Return (round, point, kind, rank) of the whole matrix, `rounds` times over."""
    return list(product(range(rounds), POINTS, KINDS, (0, SIZE - 1)))


@contextmanager
def faulty(rank: int, point: str, kind: str) -> Iterator[None]:
    """Let the ranks that start inside the block have one fault, once."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FILE] = f"{folder}/fault"
        try:
            with faulty_worker.faulty(rank, point, kind) as file:
                yield
                assert not file.exists(), f"{kind} at {point} did not happen"
        finally:
            del os.environ[FILE]


def run(job: Job, expected: Video, *, rounds: int) -> Tally:
    """Run the matrix and return what came of it; prints a line for each case that ends otherwise than it should."""
    tally = Tally()
    for number, point, kind, rank in cases(rounds):
        name = f"{kind} at {point}, rank {rank}, round {number + 1}"
        began = time.monotonic()
        befall(job, expected, (rank, point, kind), name=name, tally=tally)
        took = time.monotonic() - began
        tally.cases += 1
        tally.seconds[name] = took
        if took > HANG_SECONDS:
            tally.hangs.append(name)
        print(f"{took:6.1f} s  {name}", flush=True)
    return tally


def befall(job: Job, expected: Video, fault: tuple[int, str, str], *, name: str, tally: Tally) -> None:
    """Run one job with one fault and note what came of it."""
    pids: set[int] = set()
    logging.disable(logging.ERROR)  # their tracebacks are as planned
    with faulty(*fault), Pool(("cpu",) * SIZE, threads=1, patience=PATIENCE) as pool:
        try:
            video = pool.run(job, on_step=lambda *_: pids.update(pool.process_ids))
            tally.videos += 1
            right = fault[2] in LOST and video.restarts == 1 and same(video, expected)
        except RankFailed as error:
            tally.errors += 1
            said = str(error)
            right = SAID.get(fault[2], "\0") in said and f"rank {fault[0]} on cpu" in said and "Traceback" not in said
    logging.disable(logging.NOTSET)
    if not right:
        tally.wrong.append(name)
    if not all(ends(pid, 5) for pid in pids):
        tally.orphans.append(name)


def same(video: Video, expected: Video) -> bool:
    """Say whether two videos are one, latents and frames."""
    assert video.frames is not None and expected.frames is not None
    pairs = ((video.latents, expected.latents), (video.frames, expected.frames))
    return all(bool((a - b).abs().max() <= EXACT) for a, b in pairs)
