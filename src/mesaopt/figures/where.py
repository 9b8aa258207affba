"""Where a drawn value comes from, in words: file, rows, stage, settings, equation and code. The facts are in `origins`."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesaopt.errors import InputError, unknown
from mesaopt.figures.looks import Looks, recorded
from mesaopt.figures.origins import equation, origin, rows_in_words
from mesaopt.figures.parts import Figure, Panel, Source
from mesaopt.figures.records import read_json
from mesaopt.figures.registry import FIGURES, algorithms, chosen, figure, runs
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.files import RECORD, TABLE
from mesaopt.spec.language import LanguageRun
from mesaopt.spec.plan import Plan, resolve
from mesaopt.spec.run import Run
from mesaopt.spec.settings_files import read_files
from mesaopt.store.environment import PROJECT

#: the scale of what ships with the project
RECORDED = "recorded"


@dataclass(frozen=True)
class _Made:
    """What the values of a figure were made with: the settings of a scale or, of a figure that ships, its `record` before these.

    `tables` is the folder below results/ of its table, `scale` that of the files behind it.
    """

    tables: str
    scale: str
    seeds: tuple[int, ...]
    looks: Looks
    plan: Plan
    record: Mapping[str, Any]

    def spec(self, run: str, algorithm: bool) -> Run | LanguageRun | Theory:
        """The settings of a run or of a hand-written `algorithm`; older records do not say those of algorithms."""
        planned = self.plan.algorithm(run) if algorithm else self.plan.any_run(run)
        said = self.record.get("algorithms" if algorithm else "runs", {}).get(run)
        return planned if said is None else type(planned).from_dict(said["spec"])


def where_stage(
    name: str, panel: str | None = None, series: str | None = None, scale: str | None = None, project: Path = PROJECT
) -> None:
    """Print where the values of a series come from; the series of a panel, or the panels of a figure, when no more is given.

    `scale` is that of files and settings (default: the one in config.yaml). Raises `InputError` in one line for unknown names,
    for layers that a model lacks, and for a figure that is not recorded where `scale` is the recorded one.
    """
    made = _made(name, scale, project)
    wanted = figure(name, made.looks)
    if panel is None:
        lines = _panels(name, wanted)
    elif series is None:
        lines = _series(name, _panel(name, wanted, panel))
    else:
        lines = _value(name, _panel(name, wanted, panel), series, made)
    print("\n".join(lines))


def _made(name: str, scale: str | None, project: Path) -> _Made:
    settings = read_files(project)
    wanted = scale or settings.config["scale"]
    record = _record(name, project) if wanted == RECORDED else {}
    plan = resolve(settings.experiments, settings.scales, settings.config, record["scale"] if record else wanted)
    if not record:
        return _Made(plan.scale, plan.scale, plan.seeds, plan.looks, plan, {})
    looks = recorded(record, [*runs(name), *algorithms(name)])
    return _Made(RECORDED, plan.scale, tuple(record["seeds"]), looks, plan, record)


def _record(name: str, project: Path) -> dict[str, Any]:
    """What a figure that ships with the project says of itself."""
    figure(name)  # one that there is
    folder = project / "results" / RECORDED
    path = folder / RECORD.place.format(figure=name)
    if not path.exists():
        here = [other for other in FIGURES if (folder / RECORD.place.format(figure=other)).exists()]
        raise InputError(f"{name} is not recorded: no {path.relative_to(project)}; recorded are: {', '.join(here) or 'none'}")
    return read_json(path)


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


def _value(name: str, panel: Panel, series: str, made: _Made) -> Iterator[str]:
    source = next((source for source in panel.sources if source.has(series)), None)
    if source is None:
        names = [text for source in panel.sources for text in source.names()]
        raise InputError(unknown(series, f"series of {name} {panel.name}", names))
    _require_layer(name, panel, source, series, made)
    stage, file = origin(source)
    yield f"{name} {panel.name}, {series}: rows of results/{made.tables}/{TABLE.place.format(figure=name)}"
    said = [f"seeds {', '.join(map(str, chosen(source.seeds or panel.seeds, made.seeds)))}"] if "{seed}" in source.path else []
    said += ["where it was made"] if made.record else []
    yield f"file      results/{made.scale}/{source.path}" + (f" ({'; '.join(said)})" if said else "")
    yield f"rows      {rows_in_words(source, series)}"
    yield f"stage     python -m mesaopt {stage.name}"
    for run in (source.run, *source.behind):
        yield f"settings  {run}: {made.spec(run, source.algorithm).to_json()}"
    if stage.of == "language" and stage.settings:
        yield f"settings  {stage.name}: {json.dumps(made.plan.language.measures.to_dict())}"
    elif stage.settings and not source.algorithm:
        yield f"settings  {stage.name}: {json.dumps(made.plan.analysis(stage.name, source.run).to_dict())}"
    yield f"equation  {file.equation}"
    yield from (f"code      {place} ({_file(place)})" for place in file.code)
    for kind in _kinds(source, made):
        yield f"of        {kind}: {equation(kind).equation}"
        yield f"code      {equation(kind).code} ({_file(equation(kind).code)})"


def _require_layer(name: str, panel: Panel, source: Source, series: str, made: _Made) -> None:
    """Raise `InputError` where a series is of a layer that the model lacks: its name alone takes any number."""
    spec = made.spec(source.run, source.algorithm)
    layer = (source.columns(series) or {}).get("layer")
    if layer is not None and not isinstance(spec, Theory) and int(layer) > len(spec.model.layers):
        label = f"{source.run} has {len(spec.model.layers)} layer{'s' * (len(spec.model.layers) > 1)}"
        raise InputError(f"unknown series of {name} {panel.name} {series!r}: {label}")


def _kinds(source: Source, made: _Made) -> list[str]:
    """The kinds of layers of a trained run, or the algorithm."""
    spec = made.spec(source.run, source.algorithm)
    return [spec.algorithm] if isinstance(spec, Theory) else list(dict.fromkeys(spec.model.layers))


def _file(place: str) -> str:
    return f"src/{place.partition(':')[0].replace('.', '/')}.py"
