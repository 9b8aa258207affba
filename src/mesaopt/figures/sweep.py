"""A value over a swept setting, such as depth, size of the state, noise or embedding: a facet per panel, a line per series."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mesaopt.figures import style
from mesaopt.figures.draw import saved
from mesaopt.figures.options import Style
from mesaopt.figures.panels import BAND_ALPHA, band, mean
from mesaopt.figures.records import read_json
from mesaopt.spec.look import Look
from mesaopt.store.tables import read_table

#: facets in a row, and height of a facet by its width
COLUMNS, HEIGHT = 2, 0.72


def draw_facets(
    table: Path,
    labels: tuple[str, str],
    options: Mapping[str, Any],
    out: Path,
    looks: Mapping[str, Look] | None = None,
    note: str = "",
) -> None:
    """Draw every panel of a `figure` table, whose x is the swept setting, as a facet; the format follows the ending of `out`.

    `labels`: what x and y are; `looks`: how series are drawn, by their names (the others in a palette of their own); `note`: the
    small print. Raises `InputError` in one line for a table that is missing or damaged, unknown options and formats.
    """
    chosen, rows = Style.from_dict(options), read_table(table, "figure")
    with style.applied(chosen):
        page = _page(rows, labels, chosen, dict(looks or {}))
        if chosen.small_print and note:
            page.supxlabel(note, fontsize=chosen.font_size - 2, x=0.99, ha="right", color="0.35")
        saved(page, out)


#: what a panel of a user's sweep shows, with its unit
Y_LABELS = {
    "test_loss": r"test loss at the end, $\frac{1}{2}\Vert\hat s-s\Vert^2$",
    "mse": r"next-token MSE at $t=T$, $\frac{1}{2}\Vert\hat s-s\Vert^2$",
    "target_probe": r"target probe, last layer, $t=T$, $\frac{1}{2}\Vert\hat s-s\Vert^2$",
    "preconditioning_probe": r"preconditioning probe, last layer, $t=T$, $\frac{1}{2}\Vert\hat x-x\Vert^2$",
}


def draw_sweep_stage(table: Path, provenance: Path, options: Mapping[str, Any], out: Path) -> None:
    """Draw the table of a user's sweep over its first setting; see `draw_facets`."""
    facts = read_json(provenance)
    sweep, seeds = facts["sweep"], facts["seeds"]
    commit = (facts["commit"] or "unknown")[:8]
    parts = [f"scale {facts['scale']}", f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}"]
    parts += [f"diverged: {'; '.join(sweep['diverged'])}"] if sweep.get("diverged") else []
    parts.append(f"commit {commit}")
    draw_facets(table, (sweep["over"][0], Y_LABELS[sweep["panel"]]), options, out, note="  ·  ".join(parts))


def _page(rows: pd.DataFrame, labels: tuple[str, str], options: Style, looks: Mapping[str, Look]) -> Any:
    """The facets as a matplotlib figure that no window shows."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    plt.switch_backend("agg")
    facets = min(COLUMNS, rows["panel"].nunique())
    grid = sns.relplot(
        rows[["panel", "series", "x", "y"]],
        x="x",
        y="y",
        hue="series",
        palette=_colours(rows, looks),
        col="panel",
        col_wrap=facets,
        kind="line",
        marker="o",
        markersize=3 * options.line_width,
        estimator=mean,
        errorbar=functools.partial(band, floor=float("-inf")) if options.band else None,
        err_kws={"alpha": BAND_ALPHA, "linewidth": 0},
        height=options.width / COLUMNS * HEIGHT,
        aspect=1 / HEIGHT,
        facet_kws={"sharey": False, "sharex": False, "legend_out": False},
    )
    grid.set_titles("{col_name}")
    grid.set_axis_labels(*labels)
    grid.legend.set_title("")
    grid.figure.set_layout_engine("constrained")
    plt.close(grid.figure)
    return grid.figure


def _colours(rows: pd.DataFrame, looks: Mapping[str, Look]) -> dict[str, Any]:
    import seaborn as sns

    names = [str(name) for name in rows["series"].unique()]
    free = dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))
    return {name: style.line(looks[name])["color"] if name in looks else free[name] for name in names}
