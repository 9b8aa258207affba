"""What the workflow asks about figures: which there are, the files, runs and analyses behind each. No heavy imports."""

import functools
from collections.abc import Callable, Iterator, Sequence

from mesaopt.errors import InputError, unknown
from mesaopt.figures.index import INDEX
from mesaopt.figures.looks import Looks, shipped
from mesaopt.figures.parts import Figure, Panel, Seeds, Source, run_folder
from mesaopt.spec import stages

__all__ = ["FIGURES", "algorithms", "analyses", "figure", "inputs", "runs"]

#: every figure by name
FIGURES: dict[str, Callable[[], Figure]] = INDEX


def plain(name: str) -> str:
    """A figure's or a run's name without slashes, as rules and captions are called."""
    return name.replace("/", "-")


def figure(name: str, looks: Looks | None = None) -> Figure:
    """What figure `name` shows, its series named by `looks` (default: those of the project's experiments.yaml).

    Raises `InputError` in one line when there is no such figure.
    """
    return _shipped(name) if looks is None else _made(name).joined(name, looks).with_looks(looks)


@functools.cache
def _shipped(name: str) -> Figure:
    return figure(name, shipped())


@functools.cache
def _made(name: str) -> Figure:
    if name not in INDEX:
        raise InputError(unknown(name, "figure", list(INDEX)))
    return INDEX[name]()


def _sources(name: str, looks: Looks | None) -> Iterator[tuple[Panel, Source]]:
    yield from ((panel, source) for panel in figure(name, looks).panels for source in panel.sources)


def inputs(name: str, seeds: Sequence[int], looks: Looks | None = None) -> list[str]:
    """Files behind figure `name`, relative to results/{scale}/: its tables, and spec.json and provenance.json of its runs.

    Panels that show one seed use the first of `seeds`.
    """
    tables = [(source.path, source.seeds or panel.seeds) for panel, source in _sources(name, looks)]
    folders = {run_folder(run): which for run, which in runs(name, looks).items()}
    records = [(f"{of}/{file}", which) for of, which in folders.items() for file in ("spec.json", "provenance.json")]
    files = [path.format(seed=seed) for path, which in tables + records for seed in chosen(which, seeds)]
    return list(dict.fromkeys(files))


def runs(name: str, looks: Looks | None = None) -> dict[str, Seeds]:
    """The trained runs behind figure `name`, such as linear/lsa-d6, and whether all seeds are needed or the first alone."""
    found: dict[str, Seeds] = {}
    for panel, source in _sources(name, looks):
        for run in source.runs:
            found[run] = "all" if "all" in (source.seeds or panel.seeds, found.get(run)) else "first"
    return found


def algorithms(name: str, looks: Looks | None = None) -> list[str]:
    """The hand-written algorithms behind figure `name`, such as linear/gd1."""
    return list(dict.fromkeys(source.run for _, source in _sources(name, looks) if source.algorithm))


def analyses(looks: Looks | None = None) -> dict[tuple[str, ...], list[str]]:
    """Runs by the analyses that figures want of them and that one job makes."""
    wanted: dict[str, set[str]] = {}
    for _, source in (pair for name in INDEX for pair in _sources(name, looks)):
        stage = None if source.algorithm else stages.writer(source.table)
        if stage is not None:
            wanted.setdefault(source.run, set()).add(stage.name)
    return stages.jobs(wanted)


def chosen(which: Seeds, seeds: Sequence[int]) -> list[int]:
    """Of a scale's seeds those that a panel shows."""
    return list(seeds) if which == "all" else list(seeds[:1])
