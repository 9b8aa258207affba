"""Claims on the one system of figure 12, on other systems: the spread over teachers apart from that over training seeds."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from mesaopt.agreement.claims import Claim, Claims, Selection
from mesaopt.agreement.intervals import HOLDS, judge_values
from mesaopt.agreement.selections import Figures, NotMeasured, values_by_seed
from mesaopt.agreement.words import edges, measured
from mesaopt.figures.families.control_tasks import TEACHERS, of_teacher
from mesaopt.figures.registry import figure
from mesaopt.store.tables import TABLES

#: the figure of the first teacher, and that of the others
FIRST, OTHERS = "fig12", "ext/teachers"
#: a row of table `teachers`, its columns as attributes
Row = Any

TEXT = """\
The one system of figure 12 is an accident. The same claims for others, each the one system of its task (teacher 0 is
that of figure 12): the mean over training seeds and the standard deviation over them, by teacher; then the standard deviation
over teachers of these means (of ratios, all of the logarithm, which is about the relative one)."""


def claim_of(claim: Claim, number: int) -> Claim | None:
    """The claim on that teacher; None where it reads what other teachers have not."""
    if not number:
        return claim
    of = _twin(claim.of, number)
    against = None if claim.against is None else _twin(claim.against, number)
    if of is None or (claim.against is not None and against is None):
        return None
    return dataclasses.replace(claim, of=of, against=against)


def _twin(selection: Selection, number: int) -> Selection | None:
    """Of the other figure where it is of the first teacher; what is of other figures stays as it is."""
    if selection.figure != FIRST:
        return selection
    name = f"{selection.panel}{of_teacher(number)}"
    known = {panel.name for panel in figure(OTHERS).panels}
    return dataclasses.replace(selection, figure=OTHERS, panel=name) if name in known else None


def by_teacher(claims: Claims, tables: Figures, scale: str) -> pd.DataFrame:
    """Table `teachers`: a row for every claim on figure 12 and every teacher whose curves are there; none where only the first
    teacher's are.
    """
    kinds = {column: "object" if kind == "string" else kind for column, kind in TABLES["teachers"].items()}
    return pd.DataFrame(list(_rows(claims, tables, scale)), columns=list(kinds)).astype(kinds)


def _rows(claims: Claims, tables: Figures, scale: str) -> Iterator[dict[str, str | int | float]]:
    for claim in (one for one in claims.at(scale) if FIRST in one.figures):
        rows = [row for number in (0, *TEACHERS) if (row := _of_one(claim, number, tables)) is not None]
        if len(rows) > 1:
            yield from rows


def _of_one(claim: Claim, number: int, tables: Figures) -> dict[str, str | int | float] | None:
    other = claim_of(claim, number)
    if other is None:
        return None
    try:
        values = list(values_by_seed(other, tables).values())
    except NotMeasured:
        return None
    found = judge_values(values, claim.bound, claim.measured.scale)
    return {
        "claim": claim.name,
        "teacher": number,
        "seeds": found.seeds,
        "estimate": found.estimate,
        "deviation": found.deviation,
        "log": int(claim.measured.scale == "log" and min(values) > 0),
        "verdict": found.verdict(found.p),
    }


def section(claims: Claims, rows: list[Row]) -> list[str]:
    """Blocks of Markdown; none where other teachers were not run."""
    by_claim: dict[str, list[Row]] = {}
    for row in rows:
        by_claim.setdefault(row.claim, []).append(row)
    if not by_claim:
        return []
    named = {claim.name: claim for claim in claims.claims}
    head = "| claim | bound | by teacher (deviation over seeds) | deviation over teachers |\n|---|---|---|---|"
    lines = [_line(named[name], of) for name, of in by_claim.items() if name in named]
    return ["## Other teachers", TEXT, "\n".join([head, *lines])]


def _line(claim: Claim, rows: list[Row]) -> str:
    found = "; ".join(
        f"{row.teacher}: {measured(row.estimate)} ({_spread(row.deviation)}), "
        + (row.verdict if row.verdict == HOLDS else f"**{row.verdict}**")
        for row in rows
    )
    bound = edges(_finite(claim.bound.low), _finite(claim.bound.high))
    return f"| {claim.sentence} | {bound} | {found} | {_spread(over_teachers(rows))} |".replace("\n", " ")


def over_teachers(rows: list[Row]) -> float:
    """Standard deviation of the estimates, of ratios that of their logarithms."""
    estimates = np.array([row.estimate for row in rows])
    log = all(row.log for row in rows)
    return float((np.log(estimates) if log else estimates).std(ddof=1))


def _spread(value: float) -> str:
    return "no spread" if math.isnan(value) else measured(value, 2)


def _finite(edge: float) -> float:
    return edge if math.isfinite(edge) else math.nan
