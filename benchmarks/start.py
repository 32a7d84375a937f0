"""How soon a second Run begins: `python -m benchmarks.start`

From the call of a warm pool to the moment when all ranks begin the first denoising step, on two CPU ranks with the bundled
model. The first run, which starts the ranks and loads the model, is given beside it.
"""

import statistics
import time
from pathlib import Path

from benchmarks.claims import Claim, report
from parallel.job.job import Job, Prompt
from parallel.pool import Pool
from parallel.wire.messages import Step

MODEL = Path(__file__).resolve().parents[1] / "assets" / "moving-shapes"
RANKS = 2
REPEATS = 5


class FirstStep:
    """When the last rank was ready to denoise."""

    def __init__(self):
        self.called, self.seconds = time.perf_counter(), {}

    def __call__(self, step: Step, _) -> None:
        if step.phase == "denoise" and step.step == 0:
            self.seconds[step.rank] = time.perf_counter() - self.called


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
    report("start", [claim], began, seconds=waits)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
