"""What is claimed, in a form that can be refuted: config/claims.yaml, read and checked against its schema and the figures."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mesaopt.agreement.intervals import VERDICTS, Bound
from mesaopt.agreement.statistics import STATISTICS, Statistic
from mesaopt.config import check, read_yaml, typed
from mesaopt.errors import InputError, unknown
from mesaopt.figures.parts import Panel
from mesaopt.figures.registry import figure

FILE, SCHEMA = Path("config/claims.yaml"), Path("workflow/schemas/claims.schema.yaml")


#: what the claims of one topic amount to, and how the page says it
OUTCOMES = {
    "reproduced": "reproduced",
    "in_part": "reproduced in part",
    "not_reproduced": "not reproduced",
    "undecided": "undecided",
}


@dataclass(frozen=True)
class Topic:
    """A section of the page, with what is thought of it (`views`) by outcome."""

    title: str
    views: Mapping[str, str]


@dataclass(frozen=True)
class Selection:
    """Curves of a figure's table: series of a panel, over the positions x from `x[0]` to `x[1]`, at the last one, or over all."""

    figure: str
    panel: str
    series: tuple[str, ...]
    x: tuple[float, float] | Literal["last"] | None = None


@dataclass(frozen=True)
class Published:
    """The value of the same statistic in the paper or its published numbers, and which."""

    value: float
    source: str


@dataclass(frozen=True)
class Claim:
    """One claim: what is measured, where it must lie, and what is thought of it (`views`) by verdict."""

    name: str
    topic: str
    sentence: str
    source: str
    statistic: str
    of: Selection
    against: Selection | None
    bound: Bound
    scales: tuple[str, ...]
    published: Published | None = None
    reason: str = ""
    views: Mapping[str, str] = field(default_factory=dict)

    @property
    def selections(self) -> tuple[Selection, ...]:
        return (self.of,) if self.against is None else (self.of, self.against)

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures whose tables it reads."""
        return tuple(dict.fromkeys(selection.figure for selection in self.selections))

    @property
    def measured(self) -> Statistic:
        return STATISTICS[self.statistic]


@dataclass(frozen=True)
class Change:
    """An edit of a claim after the first evaluation on recorded tables."""

    claim: str
    date: str
    what: str
    why: str


@dataclass(frozen=True)
class Claims:
    """All claims in their order, their topics, and the edits."""

    topics: Mapping[str, Topic]
    claims: tuple[Claim, ...]
    changes: tuple[Change, ...]

    def at(self, scale: str) -> tuple[Claim, ...]:
        """Those meant for a scale; recorded tables are of paper settings."""
        return tuple(claim for claim in self.claims if settings_of(scale) in claim.scales)

    def figures(self, scale: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for claim in self.at(scale) for name in claim.figures))


def settings_of(scale: str) -> str:
    return "paper" if scale == "recorded" else scale


def read_claims(project: Path) -> Claims:
    """Raises `InputError` in one line for what the schema refuses, and for statistics, panels or series that are none."""
    content = typed(read_yaml(project / FILE))
    check(content, read_yaml(project / SCHEMA), FILE.name)
    topics = {name: Topic(entry["title"], entry.get("views", {})) for name, entry in content["topics"].items()}
    claims = tuple(_claim(name, entry, topics) for name, entry in content["claims"].items())
    changes = tuple(
        Change(**{"claim": entry["claim"]} | {k: str(entry[k]) for k in ("date", "what", "why")}) for entry in content["changes"]
    )
    for change in changes:
        _known(change.claim, "claim", [claim.name for claim in claims], "changes")
    return Claims(topics, claims, changes)


def _claim(name: str, entry: Mapping[str, Any], topics: Mapping[str, Topic]) -> Claim:
    _known(entry["statistic"], "statistic", list(STATISTICS), name)
    _known(entry["topic"], "topic", list(topics), name)
    of = _selection(entry["of"], f"{name}: of")
    against = _selection(entry["against"], f"{name}: against") if "against" in entry else None
    _check_sides(name, STATISTICS[entry["statistic"]], entry["statistic"], of, against)
    published = Published(entry["published"]["value"], entry["published"]["source"]) if "published" in entry else None
    for verdict in entry.get("views", {}):
        _known(verdict, "verdict", list(VERDICTS), f"{name}: views")
    return Claim(
        name,
        entry["topic"],
        entry["claim"],
        entry["source"],
        entry["statistic"],
        of,
        against,
        _bound(entry["bound"], name),
        tuple(entry["scales"]),
        published,
        entry.get("reason", ""),
        entry.get("views", {}),
    )


def _check_sides(name: str, statistic: Statistic, called: str, of: Selection, against: Selection | None) -> None:
    where = f"{FILE.name}: {name}: {called}"
    if statistic.compares != (against is not None):
        raise InputError(f"{where} {'needs' if statistic.compares else 'does not take'} curves to hold them `against`")
    if statistic.several and len(of.series) < 2:
        raise InputError(f"{where} needs several series, not {of.series[0]!r} alone")
    if statistic.paired and against is not None and len(of.series) != len(against.series):
        raise InputError(f"{where} compares series one by one: {len(of.series)} and {len(against.series)} are given")


def _selection(entry: Mapping[str, Any], where: str) -> Selection:
    try:
        panels = {panel.name: panel for panel in figure(entry["figure"]).panels}
    except InputError as error:
        raise InputError(f"{FILE.name}: {where}: {error}") from None
    _known(entry["panel"], f"panel of {entry['figure']}", list(panels), where)
    given = entry["series"]
    series = tuple(given) if isinstance(given, list) else (given,)
    for one in series:
        if not has_series(panels[entry["panel"]], one):
            known = [source.series for source in panels[entry["panel"]].sources]
            raise InputError(f"{FILE.name}: {where}: {unknown(one, 'series of ' + entry['panel'], known)}")
    return Selection(entry["figure"], entry["panel"], series, _positions(entry.get("x"), where))


def _positions(x: Any, where: str) -> tuple[float, float] | Literal["last"] | None:
    if x is None or x == "last":
        return x
    low, high = x if isinstance(x, list) else (x, x)
    if low > high:
        raise InputError(f"{FILE.name}: {where}: x from {low:g} to {high:g}: the first is larger than the second")
    return float(low), float(high)


def has_series(panel: Panel, series: str) -> bool:
    """Whether a panel has a series of that name; `{layer}` in the name of its source stands for any number."""
    patterns = ("".join(_as_pattern(part) for part in re.split(r"(\{\w+\})", source.series)) for source in panel.sources)
    return panel.kind != "matrix" and any(re.fullmatch(pattern, series) for pattern in patterns)


def _as_pattern(part: str) -> str:
    return {"{layer}": r"\d+"}.get(part, r"\w+" if part.startswith("{") else re.escape(part))


def _bound(entry: Mapping[str, Any], name: str) -> Bound:
    ((kind, value),) = entry.items()
    if kind == "below":
        return Bound(high=value)
    if kind == "above":
        return Bound(low=value)
    low, high = value
    if low >= high:
        raise InputError(f"{FILE.name}: {name}: bound between {low:g} and {high:g}: the first must be smaller")
    return Bound(low, high)


def _known(name: str, kind: str, known: list[str], where: str) -> None:
    if name not in known:
        raise InputError(f"{FILE.name}: {where}: {unknown(name, kind, known)}")
