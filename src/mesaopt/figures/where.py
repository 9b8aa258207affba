"""Where a drawn value comes from, in words: file, rows, stage, settings, equation and code. The facts are in `origins`."""

import json
from collections.abc import Iterator
from pathlib import Path

from mesaopt.errors import InputError, unknown
from mesaopt.figures.origins import equation, origin, rows_in_words
from mesaopt.figures.parts import Figure, Panel, Source
from mesaopt.figures.registry import chosen, figure
from mesaopt.spec.plan import Plan, resolve
from mesaopt.spec.yaml_files import read_yaml
from mesaopt.store.environment import PROJECT


def where_stage(
    name: str, panel: str | None = None, series: str | None = None, scale: str | None = None, project: Path = PROJECT
) -> None:
    """Print where the values of a series come from; the series of a panel, or the panels of a figure, when no more is given.

    `scale` is that of files and settings (default: the one in config.yaml). Raises `InputError` in one line for unknown names.
    """
    plan = _plan(scale, project)
    wanted = figure(name, plan.looks)
    if panel is None:
        lines = _panels(name, wanted)
    elif series is None:
        lines = _series(name, _panel(name, wanted, panel))
    else:
        lines = _value(name, _panel(name, wanted, panel), series, plan)
    print("\n".join(lines))


def _plan(scale: str | None, project: Path) -> Plan:
    experiments, scales, config = (read_yaml(project / "config" / f"{file}.yaml") for file in ("experiments", "scales", "config"))
    wanted = scale or config["scale"]
    return resolve(experiments, scales, config, "paper" if wanted == "recorded" else wanted)


def _panel(name: str, wanted: Figure, panel: str) -> Panel:
    panels = {one.name: one for one in wanted.panels}
    if panel not in panels:
        raise InputError(unknown(panel, f"panel of {name}", list(panels)))
    return panels[panel]


def _panels(name: str, wanted: Figure) -> Iterator[str]:
    yield f"{name}: {wanted.title}. Panels (python -m mesaopt where {name} PANEL):"
    width = max(len(panel.name) for panel in wanted.panels)
    for panel in wanted.panels:
        yield f"  {panel.name:{width}}  {panel.title}{' (in the table alone)' if panel.kind == 'table' else ''}"


def _series(name: str, panel: Panel) -> Iterator[str]:
    if not panel.sources:
        yield f"{name} {panel.name}: drawn by hand, from no data"
        return
    yield f'{name} {panel.name}: {panel.title}. Series (python -m mesaopt where {name} {panel.name} "SERIES"):'
    names = [(text, source) for source in panel.sources for text in source.names()]
    width = max(len(text) for text, _ in names)
    for text, source in names:
        yield f"  {text:{width}}  {source.path}"


def _value(name: str, panel: Panel, series: str, plan: Plan) -> Iterator[str]:
    source = next((source for source in panel.sources if source.has(series)), None)
    if source is None:
        names = [text for source in panel.sources for text in source.names()]
        raise InputError(unknown(series, f"series of {name} {panel.name}", names))
    stage, made = origin(source)
    seeds = ", ".join(map(str, chosen(source.seeds or panel.seeds, plan.seeds)))
    yield f"{name} {panel.name}, {series}: rows of results/{plan.scale}/tables/{name}.parquet"
    yield f"file      results/{plan.scale}/{source.path}" + (f" (seeds {seeds})" if "{seed}" in source.path else "")
    yield f"rows      {rows_in_words(source, series)}"
    yield f"stage     python -m mesaopt {stage.name}"
    for run in (source.run, *source.behind):
        spec = plan.algorithm(run) if source.algorithm else plan.any_run(run)
        yield f"settings  {run}: {spec.to_json()}"
    if stage.of == "language" and stage.settings:
        yield f"settings  {stage.name}: {json.dumps(plan.language.measures.to_dict())}"
    elif stage.settings and not source.algorithm:
        yield f"settings  {stage.name}: {json.dumps(plan.analysis(stage.name, source.run).to_dict())}"
    yield f"equation  {made.equation}"
    yield from (f"code      {place} ({_file(place)})" for place in made.code)
    for kind in _kinds(source, plan):
        yield f"of        {kind}: {equation(kind).equation}"
        yield f"code      {equation(kind).code} ({_file(equation(kind).code)})"


def _kinds(source: Source, plan: Plan) -> list[str]:
    """The kinds of layers of a trained run, or the algorithm."""
    if source.algorithm:
        return [plan.algorithm(source.run).algorithm]
    return list(dict.fromkeys(plan.any_run(source.run).model.layers))


def _file(place: str) -> str:
    return f"src/{place.partition(':')[0].replace('.', '/')}.py"
