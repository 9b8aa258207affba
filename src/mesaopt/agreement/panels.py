"""Panels and series of figures that a settings file names: found, or one line that says which there are."""

from mesaopt.errors import InputError, unknown
from mesaopt.figures.parts import Panel
from mesaopt.figures.registry import figure


def find_panel(figure_name: str, panel_name: str, where: str) -> Panel:
    """Raises `InputError` in one line that begins with `where` when there is no such figure or panel."""
    try:
        panels = {panel.name: panel for panel in figure(figure_name).panels}
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if panel_name not in panels:
        raise InputError(f"{where}: {unknown(panel_name, f'panel of {figure_name}', list(panels))}")
    return panels[panel_name]


def check_series(panel: Panel, series: str, where: str) -> None:
    """Raises `InputError` in one line that begins with `where` unless the panel has curves of that name."""
    if not has_series(panel, series):
        raise InputError(f"{where}: {unknown(series, f'series of {panel.name}', [source.series for source in panel.sources])}")


def has_series(panel: Panel, series: str) -> bool:
    """Whether a panel has curves of that name."""
    return panel.kind != "matrix" and any(source.has(series) for source in panel.sources)
