"""Draw what the study of coherence found, into bench/: seams by way, identity over time, scopes, and pictures of each way."""

from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import binomtest

from benchmarks import plots, study
from benchmarks.ablations import CLIP, DEFAULT, SCOPES, WAYS
from benchmarks.plots import save
from benchmarks.shape_metrics import ROUND
from benchmarks.study import SEAMS

Table = dict[str, dict[str, Any]]


def draw(table: Table, rows: list[dict[str, Any]], pictures: dict[str, torch.Tensor]) -> None:
    """Leave all pictures for which there is data."""
    seams(table)
    identity(rows)
    scopes(table)
    for frames in (study.SHORT, study.MIDDLE, study.LONG):
        sheet(pictures, frames)


def seams(table: Table) -> None:
    """Seam ratios with their 95 % intervals, by way, on the short videos."""
    ways = [way.name for way in WAYS if f"{way.name}, {study.SHORT} frames" in table]
    figure, axes = plt.subplots(1, len(SEAMS), figsize=(12, 1 + 0.32 * len(ways)), sharey=True, constrained_layout=True)
    for axis, kind in zip(axes, SEAMS):
        values = np.array([table[f"{way}, {study.SHORT} frames"][f"seam, {kind}"] for way in ways])
        spread = np.abs(values[:, 1:] - values[:, :1]).T
        axis.errorbar(values[:, 0], ways, xerr=np.nan_to_num(spread), fmt="o", capsize=3)
        axis.axvline(1, color="k", linewidth=0.8)
        axis.set(title=kind, xscale="log", xlabel="at borders / inside clips")
        low, high = axis.get_xlim()
        marks = [mark for mark in (0.5, 1, 2, 4, 8, 16) if low <= mark <= high]
        axis.set_xticks(marks, [f"{mark:g}" for mark in marks])
        axis.set_xticks([], minor=True)
        axis.grid(alpha=0.3)
    axes[0].invert_yaxis()
    save(figure, "quality_seams")


def identity(rows: list[dict[str, Any]]) -> None:
    """How much of shape, colour and background is as in the beginning: long videos, and some that no caption describes."""
    panels = {
        f"{study.LONG} frames": [row for row in rows if row["frames"] == study.LONG and not row["silent"]],
        f"{study.MIDDLE} frames, no caption": [row for row in rows if row["frames"] == study.MIDDLE and row["silent"]],
    }
    if not all(panels.values()):
        return
    figure, axes = plt.subplots(len(panels), len(ROUND), figsize=(13, 6), sharey=True, constrained_layout=True)
    for line, (title, some) in zip(axes, panels.items()):
        for axis, part in zip(line, ROUND):
            for way in dict.fromkeys(row["way"] for row in some):
                curves = np.array([list(row["identity"][part].values()) for row in some if row["way"] == way])
                starts = [int(start) for start in some[0]["identity"][part]]
                (drawn,) = axis.plot(starts, curves.mean(0), label=f"{way} ({len(curves)} videos)")
                ends = [binomtest(int(count), len(curves)).proportion_ci() for count in curves.sum(0)]
                axis.fill_between(
                    starts, [end.low for end in ends], [end.high for end in ends], color=drawn.get_color(), alpha=0.08
                )
            axis.set(ylim=(0, 1.05), title=f"{part}, {title}")
            axis.grid(alpha=0.3)
        line[0].set_ylabel("as in the first window")
        line[-1].legend(fontsize=7, loc="lower left")
    for axis in axes[-1]:
        axis.set_xlabel("frame")
    save(figure, "quality_identity")


def scopes(table: Table) -> None:
    """What the two scopes do, on videos of middle length."""
    names = [way.name for way in (DEFAULT, *SCOPES) if f"{way.name}, {study.MIDDLE} frames" in table]
    if not names:
        return
    figures = ("as captioned", "unsteady", "teleports", "pace", "period", "jitter")
    figure, axes = plt.subplots(1, len(figures), figsize=(14, 1 + 0.3 * len(names)), sharey=True, constrained_layout=True)
    for axis, key in zip(axes, figures):
        values = np.array([table[f"{name}, {study.MIDDLE} frames"][key] for name in names])
        axis.errorbar(values[:, 0], names, xerr=np.nan_to_num(np.abs(values[:, 1:] - values[:, :1]).T), fmt="o", capsize=3)
        axis.set(title=key)
        axis.grid(alpha=0.3)
    axes[0].invert_yaxis()
    save(figure, "quality_scopes")


def sheet(pictures: dict[str, torch.Tensor], frames: int) -> None:
    """Frames of each way's first video, one row a way: around the first border, or over the whole of a long one."""
    kind = f", {frames} frames"
    names = sorted((name for name in pictures if name.endswith(kind)), key=_place)

    def at_border(row: str, column: int) -> bool:
        return frames == study.SHORT and "prompt switch" not in row and study.SHEET[column] == CLIP

    plots.sheet({name.removesuffix(kind): pictures[name] for name in names}, f"quality_sheet_{frames}", at_border)


def _place(name: str) -> tuple[bool, bool, int]:
    order = [way.name for way in (*WAYS, *SCOPES)]
    way = name.rsplit(", ", 1)[0].removesuffix(", no caption").removesuffix(", prompt switch")
    return "prompt switch" in name, "no caption" in name, order.index(way)
