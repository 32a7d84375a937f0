"""How soon a second Run begins: `python -m benchmarks.start`

From the call of a warm pool to the moment when all ranks begin the first denoising step, on two CPU ranks with the bundled
model. The first run, which starts the ranks and loads the model, is given beside it. Then first runs and restarts after a kill,
with the launcher that the pool takes by itself and with plain processes in turns.
"""

import os
import signal
import statistics
import time
from functools import partial
from pathlib import Path

from benchmarks.claims import Claim, report
from parallel.job.job import Job, Prompt
from parallel.pool import Pool
from parallel.pool.launchers import Launcher, Plain, fastest_launcher
from parallel.wire.messages import Step

MODEL = Path(__file__).resolve().parents[1] / "assets" / "moving-shapes"
RANKS = 2
REPEATS = 5
STARTS = 3  # of each kind


class FirstStep:
    """When the last rank was ready to denoise."""

    def __init__(self):
        self.called, self.seconds = time.perf_counter(), {}

    def __call__(self, step: Step, _) -> None:
        if step.phase == "denoise" and step.step == 0:
            self.seconds[step.rank] = time.perf_counter() - self.called


class Restart:
    """Kill a rank at a step; when the last of those left came to its first new step of denoising, and the pool lost it."""

    def __init__(self, pool: Pool):
        self.pool, self.killed, self.lost = pool, 0.0, 0
        self.seconds: dict[int, float] = {}

    def __call__(self, step: Step, _) -> None:
        if not self.killed and step.phase == "denoise" and step.step == 2:
            self.lost = self.pool.process_ids[-1]
            os.kill(self.lost, signal.SIGKILL)
            self.killed = time.perf_counter()
        elif self.killed and step.phase == "denoise" and step.step and self.lost not in self.pool.process_ids:
            self.seconds.setdefault(step.rank, time.perf_counter() - self.killed)


def cold(job: Job, launcher: Launcher) -> float:
    """Return the seconds from the first run of a new pool to the first denoising step of all ranks."""
    with Pool(("cpu",) * RANKS, threads=1, launcher=launcher) as pool:
        first = FirstStep()
        pool.run(job, on_step=first)
    return max(first.seconds.values())


def restarted(job: Job, launcher: Launcher) -> float:
    """Return the seconds from the end of one of three ranks to the next step of the two that are left."""
    with Pool(("cpu",) * (RANKS + 1), threads=1, launcher=launcher) as pool:
        restart = Restart(pool)
        pool.run(job.model_copy(update={"num_inference_steps": 6}), on_step=restart)
    assert len(restart.seconds) == RANKS, "it was not restarted"
    return max(restart.seconds.values())


def measure_starts(job: Job) -> tuple[list[Claim], dict[str, list[float]]]:
    """Return what forked ranks save, as a ratio to plain processes that take turns with them, and the single times."""
    seconds: dict[str, list[float]] = {}
    for _ in range(STARTS):
        for name, launcher in (("plain", Plain), ("fastest", partial(fastest_launcher, RANKS))):
            seconds.setdefault(f"cold, {name}", []).append(cold(job, launcher()))
            seconds.setdefault(f"restart, {name}", []).append(restarted(job, launcher()))
    middle = {name: statistics.median(each) for name, each in seconds.items()}
    ratios = {what: middle[f"{what}, fastest"] / middle[f"{what}, plain"] for what in ("cold", "restart")}
    return [
        Claim("first run, ratio to plain processes", ratios["cold"], "<= 1.0", middle),
        Claim("restart after a kill, seconds", middle["restart, fastest"], "<= 2.0", {"ratio": ratios["restart"]}),
    ], seconds


def main() -> int:
    began = time.perf_counter()
    prompt = Prompt(frame=0, text="a red circle orbiting clockwise on a gray background")
    job = Job(model=str(MODEL), prompts=(prompt,), frames=96, height=64, width=64, num_inference_steps=1, decode=False)
    waits = []
    with Pool(("cpu",) * RANKS, threads=1) as pool:
        for seed in range(REPEATS + 1):
            first = FirstStep()
            pool.run(job.model_copy(update={"seed": seed}), on_step=first)
            waits.append(max(first.seconds.values()))
    claim = Claim(
        "start", statistics.median(waits[1:]), "<= 0.3", {"seconds, first run": waits[0], "slowest of the rest": max(waits[1:])}
    )
    starts, seconds = measure_starts(job)
    report("start", [claim, *starts], began, seconds=waits, starts=seconds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
