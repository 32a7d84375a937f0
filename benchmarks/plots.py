"""Draw what the benchmarks left in bench/: `python -m benchmarks.plots`"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.claims import FOLDER


def read(name: str) -> dict:
    """Return the data of one benchmark."""
    return json.loads((FOLDER / f"{name}.json").read_text())["data"]


def scaling() -> None:
    """Seconds a step against ranks, one picture for each length, a line for each link."""
    data = read("scaling")
    lengths = list(next(iter(data["steps"].values())))
    figure, axes = plt.subplots(1, len(lengths), figsize=(4.2 * len(lengths), 3.8), constrained_layout=True)
    for axis, frames in zip(axes, lengths):
        for link, by_length in data["steps"].items():
            ranks, seconds = zip(*((int(r), s) for r, s in by_length[frames].items()))
            axis.plot(ranks, seconds, marker="o", markersize=3, label=link)
        if int(frames) == data["paper"]["frames"]:
            point = data["paper"]
            axis.plot(point["ranks"], point["seconds a step"], "k*", markersize=12, label="the paper, 2,300 frames on 8")
        axis.set(xscale="log", yscale="log", xlabel="ranks", ylabel="seconds a step", title=f"{int(frames):,} frames")
        axis.legend(fontsize=7)
    figure.suptitle("VideoCrafter2, 512x320, by the cost model")
    save(figure, "scaling")


def model_check() -> None:
    """What the cost model says of calls that were measured."""
    rows = read("scaling")["rows"]
    figure, axis = plt.subplots(figsize=(4.4, 4), constrained_layout=True)
    for ranks, mark in ((1, "o"), (2, "^")):
        some = [row for row in rows if row["ranks"] == ranks]
        said, true = [row["predicted"] for row in some], [row["measured"] for row in some]
        axis.plot(true, said, mark, label=f"{ranks} rank{'s' * (ranks > 1)}")
    most = max(row["measured"] for row in rows) * 1.1
    axis.plot([0, most], [0, most], "k-", linewidth=0.8)
    axis.fill_between([0, most], [0, 0.85 * most], [0, 1.15 * most], alpha=0.15, label="within 15 %")
    axis.set(xlabel="measured seconds a call", ylabel="predicted", title="The cost model against this machine")
    axis.legend()
    save(figure, "model_check")


def compare() -> None:
    """Seconds a frame, and peak memory, of what else a user would run."""
    rows = read("compare")["rows"]
    figure, (pace, memory) = plt.subplots(1, 2, figsize=(9, 3.8), constrained_layout=True)
    for name, row in rows.items():
        style = {"linewidth": 3} if name == "ours" else {}
        for axis, key in ((pace, "seconds a frame"), (memory, "peak MB")):
            axis.plot([int(frames) for frames in row[key]], list(row[key].values()), marker="o", label=name, **style)
    pace.set(xlabel="frames", ylabel="seconds a frame and call", title="Speed, one thread", ylim=0)
    memory.set(xlabel="frames", ylabel="peak MB of activations", title="Memory", yscale="log")
    pace.legend(fontsize=8)
    save(figure, "compare")


def attention() -> None:
    """Dual-scope attention against dense, by length of clip."""
    lengths = read("attention")["lengths"]
    frames = [int(length) for length in lengths]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), constrained_layout=True)
    for axis, unit in zip(axes, ("seconds", "MB")):
        for way in ("blocked", "dense", "fused"):
            axis.plot(frames, [row[f"{unit}, {way}"] for row in lengths.values()], marker="o", label=way)
        axis.set(xlabel="frames a clip", ylabel=unit, ylim=0)
    axes[0].legend()
    figure.suptitle("Dual-scope attention in blocks, with one dense mask, and that through torch's fused kernel")
    save(figure, "attention")


def profile() -> None:
    """What a call is spent on, at the limit and with communication."""
    profiles = read("efficiency")["profiles"]
    figure, axis = plt.subplots(figsize=(7, 2.6), constrained_layout=True)
    left = dict.fromkeys(profiles, 0.0)
    for part in next(iter(profiles.values())):
        widths = [profiles[way][part] for way in profiles]
        axis.barh(list(profiles), widths, left=list(left.values()), label=part)
        left = {way: left[way] + width for way, width in zip(profiles, widths)}
    axis.set(xlabel="seconds of a UNet call, standard bench, 2 ranks")
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    save(figure, "profile")


def save(figure: plt.Figure, name: str) -> None:
    """Leave a picture in bench/."""
    figure.savefig(FOLDER / f"{name}.png", dpi=80)
    plt.close(figure)


def main() -> int:
    needs = {scaling: "scaling", model_check: "scaling", compare: "compare", attention: "attention", profile: "efficiency"}
    for draw, name in needs.items():
        if Path(FOLDER / f"{name}.json").exists():
            draw()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
