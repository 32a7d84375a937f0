"""Draw what the benchmarks left in bench/: `python -m benchmarks.plots`"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.claims import FOLDER


def read(name: str) -> dict:
    """Return the data of one benchmark."""
    return json.loads((FOLDER / f"{name}.json").read_text())["data"]


def scaling() -> None:
    """Seconds a step against ranks, one picture for each length, a line for each link; dashed where branches take turns."""
    data = read("scaling")
    figure, axes = plt.subplots(1, len(data["compute"]), figsize=(4.4 * len(data["compute"]), 4), constrained_layout=True)
    for axis, (frames, compute) in zip(axes, data["compute"].items()):
        ranks = [int(count) for count in compute]
        axis.plot(ranks, list(compute.values()), color="0.6", linewidth=5, alpha=0.5, label="compute alone")
        for number, link in enumerate(data["steps"]):
            axis.plot(ranks, list(data["steps"][link][frames].values()), f"C{number}o-", markersize=3, label=link)
            axis.plot(ranks, list(data["turns"][link][frames].values()), f"C{number}--", linewidth=1)
        if int(frames) == data["paper"]["frames"]:
            point = data["paper"]
            label = f"the paper, on {point['ranks']} GPUs: {point['seconds a step']:.1f} s"
            axis.plot(point["ranks"], point["seconds a step"], "k*", markersize=12, label=label)
        axis.set(xscale="log", yscale="log", xlabel="ranks", ylabel="seconds a step", title=f"{int(frames):,} frames")
        axis.set_xticks(ranks, [str(count) for count in ranks], fontsize=7)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="lower left")
    figure.suptitle(
        "VideoCrafter2 at 512x320, by the cost model. Dashed: guidance's branches take turns, so that frames travel meanwhile"
    )
    save(figure, "scaling")


def model_check() -> None:
    """What the cost model says of calls that were measured."""
    rows = read("scaling")["rows"]
    figure, axis = plt.subplots(figsize=(4.8, 4.4), constrained_layout=True)
    ends = [0.8 * min(row["measured"] for row in rows), 1.25 * max(row["measured"] for row in rows)]
    axis.fill_between(ends, [0.85 * end for end in ends], [1.15 * end for end in ends], alpha=0.15, label="within 15 %")
    axis.plot(ends, ends, "k-", linewidth=0.8)
    for kind in sorted({(row["ranks"], row["latent"]) for row in rows}):
        some = [row for row in rows if (row["ranks"], row["latent"]) == kind]
        true, said = ([row[key] for row in some] for key in ("measured", "predicted"))
        label = f"{kind[0]} rank{'s' * (kind[0] > 1)}, {kind[1]}x{kind[1]} latents"
        axis.plot(true, said, "o" if kind[0] == 1 else "^", label=label)
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="measured seconds a call", ylabel="predicted")
    axis.set_title("The cost model against this machine")
    axis.legend(fontsize=8)
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


def overview() -> None:
    """How far each claim is from its target, as a share of it: to the left of 1 it holds."""
    shares, colours = {}, []
    for file in sorted(FOLDER.glob("*.json")):
        for name, claim in json.loads(file.read_text()).get("claims", {}).items():
            sign, bound = claim["target"].split()[:2]
            if not float(bound):
                continue
            over = claim["value"] / float(bound)
            shares[f"{name} ({claim['value']:.3g}, target {sign} {bound})"] = over if sign == "<=" else 1 / over
            colours.append("C2" if claim["holds"] else "C3")
    if not shares:
        return
    figure, axis = plt.subplots(figsize=(8, 0.6 + 0.28 * len(shares)), constrained_layout=True)
    axis.barh(list(shares), list(shares.values()), color=colours)
    axis.axvline(1, color="k", linewidth=0.8)
    axis.invert_yaxis()
    axis.set(xlabel="share of the target; red: missed", title="All claims")
    save(figure, "overview")


def save(figure: plt.Figure, name: str) -> None:
    """Leave a picture in bench/."""
    figure.savefig(FOLDER / f"{name}.png", dpi=80)
    plt.close(figure)


def sheet(rows: dict[str, Any], name: str, mark: Callable[[str, int], bool] = lambda row, column: False) -> None:
    """Draw pictures (N, H, W, 3), one row for each name, into a file; those that `mark` says get a red line at their left."""
    if not rows:
        return
    count = len(next(iter(rows.values())))
    width, height = 0.72 * count + 2.4, 0.72 * len(rows) + 0.3
    figure, axes = plt.subplots(len(rows), count, figsize=(width, height), squeeze=False)
    for line, (row, shown) in zip(axes, rows.items()):
        for number, (axis, picture) in enumerate(zip(line, shown)):
            axis.imshow(picture.numpy())
            axis.set(xticks=[], yticks=[])
            if mark(row, number):
                axis.spines["left"].set(color="red", linewidth=3)
        line[0].set_ylabel(row, rotation=0, ha="right", va="center", fontsize=8)
    figure.subplots_adjust(left=2.4 / width, right=0.995, top=0.99, bottom=0.01, wspace=0.03, hspace=0.03)
    save(figure, name)


def main() -> int:
    needs = {scaling: "scaling", model_check: "scaling", compare: "compare", attention: "attention", profile: "efficiency"}
    for draw, name in needs.items():
        if Path(FOLDER / f"{name}.json").exists():
            draw()
    overview()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
