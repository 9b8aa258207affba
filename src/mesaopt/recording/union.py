"""Two tables of a figure that were made with different training seeds, as one: seeds may be trained in several nights or places.

The new table wins where both have a seed. Panels of a single seed stay panels of one: of the two, the one that comes first in the
scale's seeds. The union's provenance is in `union_facts`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from mesaopt.errors import InputError
from mesaopt.figures.registry import figure
from mesaopt.recording.union_facts import Made, single_panels, united_facts
from mesaopt.recording.weights import on_text
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.language import LanguageRun
from mesaopt.spec.run import Run

#: place of a seed among all
Rank = Callable[[int], tuple[int, int]]


def difference(old: Made, new: Made) -> str | None:
    """Why two tables of a figure cannot be joined, in a few words: other settings or content. None if they can be."""
    first, second = ({run: _settings_of_run(of["spec"]) for run, of in made.facts["runs"].items()} for made in (old, new))
    learned = [made.facts.get("algorithms", {}) for made in (old, new)]
    both = sorted(learned[0].keys() & learned[1].keys())  # older records do not say it
    for name in both:
        first[name], second[name] = ({**of[name], "spec": _settings(Theory, of[name]["spec"])} for of in learned)
    return _first_difference(first, second) or _other_content(old.table, new.table)


def _settings_of_run(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return _settings(LanguageRun if on_text(spec) else Run, spec)


def _settings(kind: type[Run] | type[LanguageRun] | type[Theory], spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Every setting: what an older version wrote lacks those that came later, which had their defaults."""
    try:
        return kind.from_dict(spec).to_dict()
    except InputError:  # it has settings that are no more
        return spec


def _first_difference(old: Any, new: Any, place: str = "") -> str | None:
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        if isinstance(old, Mapping) or isinstance(new, Mapping):
            return f"{place} is only in the {'new' if old is None else 'recorded'} one"
        return None if old == new else f"{place} was {old}, is {new}"
    keys = dict.fromkeys([*old, *new])
    found = (_first_difference(old.get(key), new.get(key), f"{place}: {key}" if place else str(key)) for key in keys)
    return next(filter(None, found), None)


def _other_content(old: pd.DataFrame, new: pd.DataFrame) -> str | None:
    for panel in dict.fromkeys([*old["panel"], *new["panel"]]):
        mine, theirs = (table.loc[table["panel"] == panel, ["series", "x"]] for table in (old, new))
        if mine.empty or theirs.empty:
            return f"panel {panel} is only in the {'new' if mine.empty else 'recorded'} table"
        if len({frozenset(rows.itertuples(index=False, name=None)) for rows in (mine, theirs)}) > 1:
            return f"panel {panel} has other series or positions"
    return None


def unite(name: str, old: Made, new: Made, order: Sequence[int]) -> Made:
    """The union of two tables of figure `name` without a `difference`; `order`: the scale's seeds, others come after them.

    One of the two as it is when the other has nothing to add. Otherwise rows stand as if all seeds had been collected at once.
    """

    def rank(seed: int) -> tuple[int, int]:
        return (order.index(seed) if seed in order else len(order), seed)

    kept = [Made(rows, made.facts) for rows, made in zip(_kept(name, old.table, new.table, rank), (old, new), strict=True)]
    if kept[0].table.empty or kept[1].table.empty:
        return new if kept[0].table.empty else old
    rows = pd.concat([part.table for part in kept], ignore_index=True)
    shown = set(rows.loc[rows["panel"].isin(single_panels(name)), "seed"])
    # the seed that panels of one seed show stands first, for whoever says which it is
    seeds = sorted(rows["seed"].unique().tolist(), key=lambda seed: (seed not in shown, rank(seed)))
    return Made(_ordered(name, rows, seeds), united_facts(name, kept, seeds))


def _kept(name: str, old: pd.DataFrame, new: pd.DataFrame, rank: Rank) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of each that make up the union."""
    alone_old, alone_new = (table["panel"].isin(single_panels(name)) for table in (old, new))
    shown_old, shown_new = (table.loc[alone, "seed"].unique().tolist() for table, alone in ((old, alone_old), (new, alone_new)))
    from_new = not shown_old or rank(shown_new[0]) <= rank(shown_old[0])
    added = ~old["seed"].isin(new.loc[~alone_new, "seed"])
    return old[added.where(~alone_old, not from_new)], new[~alone_new | from_new]


def _ordered(name: str, rows: pd.DataFrame, seeds: Sequence[int]) -> pd.DataFrame:
    """By panel and source, as the registry has them, then by seed."""
    sources = [(panel.name, source) for panel in figure(name).panels for source in panel.sources]

    def place(panel: str, series: str) -> int:
        return next((i for i, (of, source) in enumerate(sources) if of == panel and source.has(series)), len(sources))

    places = {curve: place(*curve) for curve in set(zip(rows["panel"], rows["series"], strict=True))}
    keys = {
        "source": [places[curve] for curve in zip(rows["panel"], rows["series"], strict=True)],
        "seed": [seeds.index(seed) for seed in rows["seed"]],
    }
    by = pd.DataFrame(keys).sort_values(["source", "seed"], kind="stable").index
    return rows.iloc[by].reset_index(drop=True)
