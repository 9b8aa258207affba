"""What figures of several families are put together with."""

import dataclasses
from collections.abc import Sequence

from mesaopt.figures import contents, controls
from mesaopt.figures.parts import Layout, Panel


def lettered(panels: Sequence[Panel], letter: str) -> tuple[Panel, ...]:
    """A group of panels under one letter, which stands at the first."""
    return (dataclasses.replace(panels[0], letter=letter), *panels[1:])


def grid(panels: Sequence[Panel], columns: int) -> Layout:
    """Panels row by row, as places of a layout."""
    names = [panel.name for panel in panels]
    return tuple(tuple(names[start : start + columns]) for start in range(0, len(names), columns))


def probes(first: str, second: str, run: str = "linear/lsa-d6") -> tuple[Panel, ...]:
    """Both probes under their letters, the second for both forms of its target, and the controls of those that are drawn."""
    target, preconditioning = contents.target_probe(first, run), contents.preconditioning_probe(second, run)
    textbook = contents.preconditioning_probe(second, run, "textbook")
    beside = (*controls.probe_controls(target), *controls.probe_controls(preconditioning))
    return (*target, *preconditioning, *textbook, *beside)
