"""The page's section on bands: over training seeds, over test batches, and as they are drawn."""

import math
from typing import Any

import pandas as pd

from mesaopt.agreement.spread import MEANS, SEQUENCES
from mesaopt.agreement.words import measured

TITLE = "Bands: training seeds against test batches"
INTRODUCTION = """\
Bands of most published curves are one standard deviation over test batches of one trained model, ours over training seeds. Of
the curves below both are known, as parts of the value and averaged over x: over test batches with the seed held fixed, over seeds
with the test batches held fixed (where all seeds were tested on the same ones), and over seeds as drawn, where every seed has
test sequences of its own. In brackets: how many times as wide as over test batches."""
#: a spread over seeds below this part of that over test batches is rounding: the same algorithm, learned once on each machine
LEARNED_ONCE = 1e-3


def section(spread: pd.DataFrame | None) -> list[str]:
    """Blocks of Markdown; none without curves."""
    if spread is None or spread.empty:
        return []
    head = "| figure | panel | curve | seeds | over test batches | over seeds, same batches | over seeds, as drawn |"
    rows = [_line(row) for row in spread.itertuples()]
    return [f"## {TITLE}", INTRODUCTION, _summary(spread), "\n".join([head, "|---" * 7 + "|", *rows])]


def _line(row: Any) -> str:
    spreads = [_part(row.over_batches), _part(row.over_seeds, row.ratio), _part(row.drawn, row.drawn_ratio)]
    return f"| {' | '.join([row.figure, row.panel, row.series, str(row.seeds), *spreads])} |"


def _summary(spread: pd.DataFrame) -> str:
    """What the ratios come to, as far as they are known."""
    once = spread["ratio"] < LEARNED_ONCE
    trained = spread[~once]
    sequences, means = (trained.loc[trained["drawn_on"] == on, "drawn_ratio"] for on in (SEQUENCES, MEANS))
    lines = {
        "With test batches held fixed, bands of trained models over seeds are {} as wide.": trained["ratio"],
        "As drawn, where every seed has test sequences of its own, they are {} as wide.": sequences,
        "Losses along trainings are drawn as means over each training's own test batches: {} as wide as single ones.": means,
    }
    found = [f"- {text.format(_times(ratios.dropna()))}" for text, ratios in lines.items() if ratios.notna().any()]
    if once.any():
        found.append(f"- Learned once, so the same for all seeds: {', '.join(spread.loc[once, 'series'].unique())}.")
    return "\n".join(found) or "- One training seed shows no spread over seeds."


def _times(ratios: pd.Series) -> str:
    low, middle, high = (measured(float(value), 2) for value in (ratios.min(), ratios.median(), ratios.max()))
    return f"{middle} times" if len(ratios) == 1 else f"{middle} times (median of {len(ratios)} curves, {low} to {high})"


def _part(value: float, ratio: float = math.nan) -> str:
    if math.isnan(value):
        return ""
    if ratio < LEARNED_ONCE:
        return "0%"
    shown = f"{measured(100 * value, 2)}%"
    return shown if math.isnan(ratio) else f"{shown} ({measured(ratio, 2)})"
