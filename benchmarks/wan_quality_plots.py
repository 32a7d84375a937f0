"""Draw what the study of Wan's coherence found, into bench/: how budgets of keys do, the way from the first frame, and pictures."""

from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from benchmarks import plots
from benchmarks.plots import save
from benchmarks.wan_study import LONG, LONGEST, MIDDLE, TRAINED
from benchmarks.wan_ways import DEFAULT, MAIN, SPLITS

Table = dict[str, dict[str, Any]]
FIGURES = ("as captioned", "pace", "unsteady", "teleports", "identity", "jitter")
FAR = ("default", "dense", "RIFLEx", "window alone", "LVSA's pattern", "averaged windows", "independent clips")


def draw(table: Table, pictures: dict[str, torch.Tensor]) -> None:
    """Leave all pictures for which there is data."""
    dots(table, [way.name for way in MAIN], "wan_quality_ways")
    dots(table, [way.name for way in (DEFAULT, *SPLITS)], "wan_quality_budgets")
    far(table)
    for latents in (MIDDLE, LONG, LONGEST):
        sheet(pictures, latents // TRAINED)


def dots(table: Table, ways: list[str], name: str) -> None:
    """Figures with their 95 % intervals, by way, at ten times the trained length."""
    rows = [(way, table[f"{way}, {LONG // TRAINED}x"]) for way in ways if f"{way}, {LONG // TRAINED}x" in table]
    if not rows:
        return
    names = [way for way, _ in rows]
    size = (14, 1 + 0.3 * len(rows))
    figure, axes = plt.subplots(1, len(FIGURES), figsize=size, sharey=True, constrained_layout=True)
    for axis, key in zip(axes, FIGURES):
        values = np.array([line[key] for _, line in rows], dtype=float)
        spread = np.nan_to_num(np.abs(values[:, 1:] - values[:, :1]).T)
        axis.errorbar(values[:, 0], names, xerr=spread, fmt="o", capsize=3)
        axis.set(title=key)
        axis.grid(alpha=0.3)
    axes[0].invert_yaxis()
    save(figure, name)


def far(table: Table) -> None:
    """How far videos are from their first frame, over time."""
    lines = {way: table[f"{way}, {LONG // TRAINED}x"]["far"] for way in FAR if f"{way}, {LONG // TRAINED}x" in table}
    if not lines:
        return
    figure, axis = plt.subplots(figsize=(8, 4), constrained_layout=True)
    for way, values in lines.items():
        axis.plot(np.arange(len(values)) + 0.5, values, marker="o", label=way)
    axis.set(xlabel="tenth of the video", ylabel="mean difference from the first frame, of 255", ylim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    save(figure, "wan_quality_far")


def sheet(pictures: dict[str, torch.Tensor], times: int) -> None:
    """Frames spread over each way's first video, one row a way."""
    kind = f", {times}x"
    names = [way.name for way in (*MAIN, *SPLITS) if way.name + kind in pictures]
    plots.sheet({name: pictures[name + kind] for name in names}, f"wan_quality_sheet_{times}x")
