"""The page's sections on claims that fail, with what the published numbers say, and on claims that more seeds could decide."""

import math
from collections.abc import Mapping
from typing import Any

from mesaopt.agreement.claims import Claims
from mesaopt.agreement.intervals import FAILS, HOLDS, MOST_SEEDS, UNDECIDED
from mesaopt.agreement.words import edges, interval, number

#: a row of table `agreement`, its columns as attributes
Row = Any

FAILING = """\
Of every claim that fails: whether the published numbers, by the same statistic, fail it too (as far as they are known), and what
the cause is thought to be. A claim that both fail is no difference between the two, but between the text and its numbers."""
UNDECIDED_TEXT = f"""\
With the spread over seeds that was observed, so many seeds would put the whole interval on one side of the bound, were the mean
to stay where it is. More than a few dozen mean that the value is at the bound: no number of seeds that is worth training decides
that, a sharper question would. ({MOST_SEEDS} stands for that many or more.)"""


def failing(claims: Claims, rows: Mapping[str, Row]) -> list[str]:
    """Blocks of Markdown on the claims that fail, by whether the published numbers do; none where none fails."""
    found = [claim for claim in claims.claims if rows[claim.name].verdict == FAILS]
    if not found:
        return []
    head = "| figure | claim | ours (95 %) | bound | published | its verdict | why |\n|---|---|---|---|---|---|---|"
    lines = []
    for claim in found:
        row = rows[claim.name]
        cells = [
            row.figures,
            claim.sentence,
            interval(row.estimate, row.low, row.high),
            edges(row.bound_low, row.bound_high),
            number(row.published),
            published_verdict(row),
            claim.views.get(FAILS, ""),
        ]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return ["## What fails, and whether the published numbers do", FAILING, "\n".join([head, *lines])]


def published_verdict(row: Row) -> str:
    """What the bound says of the published value: it has no interval."""
    if math.isnan(row.published):
        return "not known"
    outside = row.published > row.bound_high or row.published < row.bound_low
    return FAILS if outside else HOLDS


def undecided(claims: Claims, rows: Mapping[str, Row]) -> list[str]:
    """Blocks of Markdown on the claims that are undecided, the nearest to a decision first; none where all are decided."""
    open_ones = [claim for claim in claims.claims if rows[claim.name].verdict == UNDECIDED]
    if not open_ones:
        return []
    found = sorted(open_ones, key=lambda claim: rows[claim.name].needed)
    head = "| figure | claim | ours (95 %) | bound | seeds | seeds needed |\n|---|---|---|---|---|---|"
    lines = []
    for row in (rows[claim.name] for claim in found):
        needed = f"{row.needed:.0f}" if row.needed < MOST_SEEDS else f"**{MOST_SEEDS}**"
        cells = (row.figures, row.sentence, interval(row.estimate, row.low, row.high), edges(row.bound_low, row.bound_high))
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} | {row.seeds} | {needed} |")
    return ["## What is undecided, and how many seeds would decide it", UNDECIDED_TEXT, "\n".join([head, *lines])]
