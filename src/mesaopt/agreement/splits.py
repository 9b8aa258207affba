"""The same claim on probes that are scored otherwise: in sample, as published, and on held-out sequences."""

import dataclasses
from typing import Any

from mesaopt.agreement.claims import Claim, Selection
from mesaopt.agreement.intervals import NOT_RUN
from mesaopt.agreement.words import edges, interval
from mesaopt.figures.contents import SPLITS
from mesaopt.figures.registry import FIGURES, figure

IN_SAMPLE, HELD_OUT = "in sample", "held out"
#: what the name of a panel of held-out scores has after that of the probe, before that of a control
_HELD_OUT = SPLITS["held_out"][0]
#: a row of table `agreement`, its columns as attributes
Row = Any


def scored(claim: Claim) -> str:
    """How the probes of a claim that has `other_split` are scored: IN_SAMPLE or HELD_OUT."""
    return HELD_OUT if _HELD_OUT in claim.of.panel else IN_SAMPLE


def other_split(claim: Claim) -> Claim | None:
    """The claim on the twins, scored on the other split, of its panels of probes; None where what is claimed is not of probes."""
    of = _twin(claim.of)
    against = claim.against and (_twin(claim.against) or claim.against)
    return dataclasses.replace(claim, of=of, against=against) if of else None


def _twin(selection: Selection) -> Selection | None:
    panels = {panel.name: panel for panel in figure(selection.figure).panels} if selection.figure in FIGURES else {}
    for base in (name for name, panel in panels.items() if panel.split == "in_sample"):
        control = selection.panel.removeprefix(base)
        if control == selection.panel:
            continue
        held_out = control.startswith(_HELD_OUT)
        name = base + (control.removeprefix(_HELD_OUT) if held_out else _HELD_OUT + control)
        if name in panels and name != selection.panel:
            return dataclasses.replace(selection, panel=name)
    return None


def section(rows: list[Row]) -> list[str]:
    """Markdown on every claim on probes that was judged both ways: the two verdicts, and where they differ."""
    both = [row for row in rows if row.scored and NOT_RUN not in (row.verdict, row.other_verdict)]
    if not both:
        return []
    differ = sum(row.verdict != row.other_verdict for row in both)
    text = (
        "Probes are scored on the sequences that they were fitted on, as published, and on others. Of"
        f" {len(both)} claims on probes {differ or 'none'} {'gets' if differ <= 1 else 'get'} different verdicts (bold)."
    )
    head = "| figure | claim | bound | in sample | held out |\n|---|---|---|---|---|"
    return ["## Probes, in sample and held out", text, "\n".join([head, *map(_line, both)])]


def _line(row: Row) -> str:
    found = [
        f"{row.verdict}: {interval(row.estimate, row.low, row.high)}",
        f"{row.other_verdict}: {interval(row.other_estimate, row.other_low, row.other_high)}",
    ]
    if row.verdict != row.other_verdict:
        found = [f"**{text}**" for text in found]
    in_sample, held_out = found if row.scored == IN_SAMPLE else reversed(found)
    cells = (row.figures, row.sentence, edges(row.bound_low, row.bound_high), in_sample, held_out)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
