"""Draws a measurement of training speed: `python benchmarks/speed_figure.py TABLE.parquet FIGURE.pdf`."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import pandas as pd
from matplotlib import pyplot as plt

from mesaopt.figures import style
from mesaopt.figures.options import Style

LABELS = {
    "naive": "naive PyTorch",
    "jax": "JAX",
    "torch": "this project, PyTorch",
    "native": "this project, compiled kernel",
}
COLOURS = {"naive": "#b0b0b0", "jax": "#f0a30a", "torch": "#74c476", "native": "#00682a"}
SWEEPS = {"time": "context length $T$", "depth": "layers", "n_state": "size of the state $n_s$", "seeds": "stacked seeds"}


def draw(frame: pd.DataFrame, small_print: str, path: Path) -> None:
    """Bars by model (best arrangement of processes); below, time and memory of one process against each size."""
    with style.applied(Style()):
        figure = plt.figure(figsize=(7.0, 5.6), layout="constrained")
        rows = figure.subplots(3, 4, gridspec_kw={"height_ratios": [1.3, 1, 1]}).tolist()
        for axes in rows[0]:
            axes.remove()
        _bars(figure.add_subplot(figure.axes[0].get_gridspec()[0, :]), frame[frame["kind"] == "speed"])
        growth = frame[frame["kind"] == "growth"]
        for column, (sweep, label) in enumerate(SWEEPS.items()):
            part = growth[growth["sweep"] == sweep] if "sweep" in growth else growth
            _growth(rows[1][column], part, lambda rows: 1e3 / rows["steps_per_second"], "ms per step" if column == 0 else "")
            _growth(rows[2][column], part, lambda rows: rows["megabytes"], "peak memory (MB)" if column == 0 else "", True)
            rows[2][column].set_xlabel(label)
        figure.supxlabel(small_print, fontsize=5, color="0.4")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)
        plt.close(figure)


def _bars(axes: plt.Axes, speed: pd.DataFrame) -> None:
    best = speed.groupby(["model", "variant", "round"], sort=False)["steps_per_second"].max().reset_index()
    models, variants = list(best["model"].unique()), [variant for variant in LABELS if variant in set(best["variant"])]
    for place, variant in enumerate(variants):
        found = best[best["variant"] == variant].groupby("model")["steps_per_second"]
        middle = found.median()[models]
        ends = [middle - found.min()[models], found.max()[models] - middle]
        at = [index + (place - (len(variants) - 1) / 2) * 0.8 / len(variants) for index in range(len(models))]
        bars = axes.bar(
            at, middle, 0.8 / len(variants), yerr=ends, color=COLOURS[variant], label=LABELS[variant], error_kw={"lw": 0.7}
        )
        axes.bar_label(bars, fmt="%.3g", fontsize=5.5, padding=1)
    axes.set(yscale="log", ylabel="training steps per second", xticks=range(len(models)), xticklabels=models)
    axes.grid(axis="x", visible=False)
    axes.legend(ncols=len(variants), loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _growth(axes: plt.Axes, part: pd.DataFrame, value, label: str, from_zero: bool = False) -> None:
    """Medians over the rounds, and their range."""
    for variant, rows in part.groupby("variant", sort=False):
        by_size = value(rows).groupby(rows["value"])
        middle, color = by_size.median(), COLOURS[str(variant)]
        axes.plot(middle.index, middle, marker="o", markersize=2.5, color=color)
        axes.fill_between(middle.index, by_size.min(), by_size.max(), color=color, alpha=0.25, lw=0)
    axes.set(xscale="log", yscale="linear" if from_zero else "log", ylabel=label)
    if from_zero:
        axes.set_ylim(bottom=0)
    ticks = sorted({int(x) for x in part["value"]}) if len(part) else []
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()


if __name__ == "__main__":
    table, figure = Path(sys.argv[1]), Path(sys.argv[2])
    facts = json.loads(table.with_suffix(".json").read_text())
    said = f"batch 256, T 50, {facts['cores']} cores of {facts['cpu']}, commit {(facts['commit'] or 'unknown')[:10]}"
    said += "; growth: linear layers (2), batch 64, one process"
    draw(pd.read_parquet(table), said, figure)
