"""The page's section on published curves: how far ours are from each."""

from typing import Any

import pandas as pd

from mesaopt.agreement.words import part

TEXT = """\
Of each published curve: the share of points within two standard deviations (ours over training seeds, and that of the
published mean over its test sequences, where we know how much single sequences differ) or 10 %, whichever is more; the largest
gap (ours against the published value), where it is, and one standard deviation of the published mean there. On contracting
systems, whose tails are heavy, that is large: the published curves are one draw of five batches. The published numbers themselves
are not part of this repository."""


def section(curves: pd.DataFrame | None) -> list[str]:
    """Blocks of Markdown; none where nothing was compared."""
    if curves is None:
        return []
    head = "| figure | panel | curve | seeds | points | within | largest gap | at | published ± |\n" + "|---" * 9 + "|"
    return ["## Published curves", TEXT, "\n".join([head, *map(_line, curves.itertuples())])]


def _line(row: Any) -> str:
    return (
        f"| {row.figure} | {row.panel} | {row.series} | {row.seeds} | {row.points} | {row.within:.0%} | {row.largest_gap:+.1%}"
        f" | {row.at:g} | {part(row.published_error)} |"
    )
