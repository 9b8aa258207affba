"""The picture of all verdicts: a row per claim, in which the bound is the same vertical line for all.

A row shows the statistic as a part of its bound, so that the claim's side is always left of 1: v/b for "below b", b/v for
"above b", and for "between" the distance from the middle by half the width.
"""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Canvas
from matplotlib.figure import Figure as Page
from matplotlib.lines import Line2D

from mesaopt.agreement.claims import Claims
from mesaopt.agreement.claims_file import read_claims
from mesaopt.agreement.intervals import FAILS, HOLDS, NOT_RUN, TOO_FEW, UNDECIDED
from mesaopt.agreement.page import Row, bound
from mesaopt.agreement.words import measured, number, rounded
from mesaopt.figures import style
from mesaopt.figures.draw import saved
from mesaopt.figures.options import Style
from mesaopt.store.tables import read_table

#: how a verdict is drawn: shapes and filling say it without colour
MARKS: dict[str, dict[str, Any]] = {
    HOLDS: {"marker": "o", "color": "#1b6f5c"},
    FAILS: {"marker": "X", "color": "#b5281e"},
    UNDECIDED: {"marker": "o", "color": "#8a6d1f", "markerfacecolor": "white"},
    TOO_FEW: {"marker": "s", "color": "#8a6d1f", "markerfacecolor": "white"},
}
PUBLISHED: dict[str, Any] = {"marker": "D", "color": "0.1", "markerfacecolor": "none", "markersize": 3.4, "linestyle": ""}
#: what is farther from its bound than this is drawn at the edge, as an arrow
LIMITS = (0.0, 2.5)
#: the unit of differences that are held against zero, in nats
DIFFERENCE = 0.05
#: inches of one row; the axis' left and right edge as parts of the page's width, and places of text in widths of the axis
ROW, AXIS = 0.19, (0.365, 0.58)
SENTENCE = -1.67
COLUMNS = {"ours (95 %)": 1.03, "bound": 1.86, "paper": 2.38, "verdict": 2.63}
#: characters of a line of a claim's sentence
WRAP = 58


def draw_stage(project: Path, agreement: Path, scale: str, options: Mapping[str, Any], out: Path) -> None:
    """Draw table `agreement`; the format follows the ending of `out`. Raises `InputError` in one line."""
    look = Style.from_dict(options)
    with style.applied(look):
        saved(compose(read_claims(project), read_table(agreement, "agreement"), scale, look), out)


def compose(claims: Claims, judged: pd.DataFrame, scale: str, options: Style) -> Page:
    """All claims by topic, from top to bottom."""
    lines = [line for name, topic in claims.topics.items() for line in _lines(topic.title, judged[judged["topic"] == name])]
    height = ROW * len(lines) + 1.1
    page = Page(figsize=(options.width, height))
    canvas = page.add_axes((AXIS[0], 0.6 / height, AXIS[1] - AXIS[0], ROW * len(lines) / height))
    _axis(canvas, len(lines), options)
    for place, line in enumerate(lines):
        if isinstance(line, str):
            _text(canvas, SENTENCE, place, line, options, weight="bold")
        else:
            _row(canvas, place, line, options)
    _legend(canvas, scale, options)
    return page


def _lines(title: str, rows: pd.DataFrame) -> list[Row]:
    return [title, *rows.itertuples()] if len(rows) else []


def _axis(canvas: Canvas, count: int, options: Style) -> None:
    canvas.set(xlim=LIMITS, ylim=(count - 0.5, -0.5))
    canvas.axvspan(LIMITS[0], 1, color="0.95", linewidth=0, zorder=0)
    canvas.axvline(1, color="0.3", linewidth=0.8)
    canvas.set_xticks([0, 0.5, 1, 1.5, 2], ["0", "0.5", "bound", "1.5", "2"])
    canvas.tick_params(labelsize=options.font_size - 2)
    canvas.set_yticks([])
    canvas.grid(False)
    canvas.spines["left"].set_visible(False)
    canvas.set_xlabel("part of the bound; shaded: where claims hold", fontsize=options.font_size - 2)
    for name, x in COLUMNS.items():
        _text(canvas, x, -1, name, options, weight="bold", va="baseline")


def _text(canvas: Canvas, x: float | int, place: float | int, text: str, options: Style, **font: Any) -> None:
    """`x` in widths of the axis, `place` in rows."""
    look: dict[str, Any] = {"fontsize": options.font_size - 2, "va": "center", "ha": "left", "linespacing": 1.05} | font
    canvas.text(x, place, text, transform=canvas.get_yaxis_transform(), clip_on=False, **look)


def _row(canvas: Canvas, place: int, row: Row, options: Style) -> None:
    grey = {"color": "0.55"} if row.verdict == NOT_RUN else {}
    sentence = row.sentence.replace(" %", "\N{NO-BREAK SPACE}%")
    _text(canvas, SENTENCE, place, "\n".join(textwrap.wrap(sentence, WRAP, break_on_hyphens=False)), options, **grey)
    values = (_interval(row), bound(row), number(row.published), _verdict(row))
    for x, text in zip(COLUMNS.values(), values, strict=True):
        _text(canvas, x, place, text, options, **grey)
    if not np.isnan(row.published):
        canvas.plot(_clipped(relative(row, row.published)), place, clip_on=False, zorder=3, markeredgewidth=0.7, **PUBLISHED)
    if row.verdict in MARKS:
        _mark(canvas, place, row)


def _interval(row: Row) -> str:
    """Estimate and interval, short."""
    if np.isnan(row.low):
        return measured(row.estimate)
    if 0 < abs(row.estimate) < 0.001:  # two digits of the estimate, and its decimals for all three: a column has little room
        decimals = 1 - int(np.floor(np.log10(abs(row.estimate))))
        estimate, low, high = (rounded(value, decimals) for value in (row.estimate, row.low, row.high))
        return f"{estimate} [{low}, {high}]"
    digits = 3 if abs(row.estimate) > 0.01 else 2
    return f"{measured(row.estimate)} [{measured(row.low, digits)}, {measured(row.high, digits)}]"


def _verdict(row: Row) -> str:
    short = "1 seed" if row.verdict == TOO_FEW else row.verdict
    return short if row.verdict == row.verdict_family else f"{short}*"


def _mark(canvas: Canvas, place: int, row: Row) -> None:
    look = MARKS[row.verdict]
    at = relative(row, row.estimate)
    if not np.isnan(row.low):
        ends = sorted(_clipped(end) for end in spread(row))
        canvas.plot(ends, [place, place], color=look["color"], linewidth=1.1, solid_capstyle="butt", zorder=2)
    beyond = {"marker": ">"} if at > LIMITS[1] else {}
    canvas.plot(_clipped(at), place, markersize=4.2, markeredgewidth=0.8, linestyle="", clip_on=False, zorder=4, **look | beyond)


def relative(row: Row, value: float) -> float:
    """Where `value` stands on the axis: 1 is the bound, less is the claim's side. Differences (bounds not above zero) stand
    at so many bounds, or parts of `DIFFERENCE`, from it.
    """
    low, high = row.bound_low, row.bound_high
    if np.isnan(low):
        return value / high if high > 0 else 1 + (value - high) / max(-high, DIFFERENCE)
    if np.isnan(high):
        return low / value if value > 0 else np.inf
    return abs(value - (low + high) / 2) / ((high - low) / 2)


def spread(row: Row) -> tuple[float, float]:
    """The ends of the interval on the axis; one around the middle of "between" reaches down to 0."""
    ends = [relative(row, getattr(row, name)) for name in ("low", "high")]
    middle = (row.bound_low + row.bound_high) / 2
    return (0.0 if row.low < middle < row.high else min(ends)), max(ends)


def _clipped(value: float) -> float:
    return float(np.clip(value, *LIMITS))


def _legend(canvas: Canvas, scale: str, options: Style) -> None:
    drawn = [
        Line2D([], [], linestyle="", markersize=4.2, markeredgewidth=0.8, label=name, **look) for name, look in MARKS.items()
    ]
    drawn.append(Line2D([], [], label="published", markeredgewidth=0.7, **PUBLISHED))
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (SENTENCE, -1.9), "borderpad": 0}
    look: dict[str, Any] = {"ncols": len(drawn), "columnspacing": 1.0, "handletextpad": 0.2, "fontsize": options.font_size - 2}
    canvas.legend(handles=drawn, bbox_transform=canvas.get_yaxis_transform(), **place, **look)
    if options.small_print:
        note = f"scale {scale}  ·  lines: 95 % intervals over training seeds  ·  *: another verdict when corrected for all claims"
        _text(canvas, SENTENCE, canvas.get_ylim()[0] + 2.5, note, options, color="0.35")
