"""Which form of the preconditioned input a table's probes are of: the published one, or, in older tables, the text's alone."""

from mesaopt.agreement.claims import Claim, Selection
from mesaopt.agreement.selections import Figures
from mesaopt.figures.contents import both_forms
from mesaopt.figures.registry import FIGURES, figure


def textbook(claim: Claim, tables: Figures) -> bool:
    """Whether a claim on the published form is judged on that of the text, because its table was made before there were both.

    Such a table holds the text's form under the name of the other. Raises `NotMeasured` when there is no table.
    """
    return any(_textbook(selection, tables) for selection in claim.selections)


def _textbook(selection: Selection, tables: Figures) -> bool:
    shown = figure(selection.figure).panels if selection.figure in FIGURES else ()
    probes = [panel.name for panel in shown if panel.form == "published" and selection.panel.startswith(panel.name)]
    if not probes or both_forms([selection.panel]):
        return False
    return not both_forms(tables.figure(selection.figure)["panel"].unique())


def note(names: list[str]) -> list[str]:
    """Markdown on figures whose tables hold the text's form; none where there are none."""
    if not names:
        return []
    return [
        f"The probes of the preconditioned input in {_listed(names)} are of the text's recursion, not of the published one: these"
        " tables were recorded before both were computed. The two differ by a third to a half, so beside the published values and"
        " curves they say little until the tables are made anew; the verdicts on them are marked *text's form*."
    ]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
