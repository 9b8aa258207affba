"""Reading config/claims.yaml, with one line for each mistake: checked against its schema, the statistics and the figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from mesaopt.agreement.claims import Change, Claim, Claims, Published, Selection, Topic
from mesaopt.agreement.intervals import VERDICTS, Bound
from mesaopt.agreement.panels import check_series, find_panel
from mesaopt.agreement.statistics import STATISTICS, Statistic
from mesaopt.errors import InputError, unknown
from mesaopt.figures.registry import FIGURES
from mesaopt.spec.yaml_files import check, read_yaml, typed

FILE, SCHEMA = Path("config/claims.yaml"), Path("workflow/schemas/claims.schema.yaml")


def read_claims(project: Path) -> Claims:
    """Raises `InputError` in one line for what the schema refuses, and for statistics, panels or series that are none."""
    content = typed(read_yaml(project / FILE))
    check(content, read_yaml(project / SCHEMA), FILE.name)
    topics = {name: _topic(name, entry) for name, entry in content["topics"].items()}
    claims = tuple(_claim(name, entry, topics) for name, entry in content["claims"].items())
    changes = tuple(map(_change, content["changes"]))
    for name in (name for change in changes for name in change.claims):
        _known(name, "claim", [claim.name for claim in claims], "changes")
    return Claims(topics, claims, changes)


def _topic(name: str, entry: Mapping[str, Any]) -> Topic:
    shown = entry.get("figure", "")
    if shown:
        _known(shown, "figure", list(FIGURES), name)
    return Topic(entry["title"], entry.get("views", {}), entry.get("question", ""), entry.get("doubt", ""), shown)


def _change(entry: Mapping[str, Any]) -> Change:
    named = entry["claim"]
    return Change(tuple(named) if isinstance(named, list) else (named,), str(entry["date"]), entry["what"], entry["why"])


def _claim(name: str, entry: Mapping[str, Any], topics: Mapping[str, Topic]) -> Claim:
    _known(entry["statistic"], "statistic", list(STATISTICS), name)
    _known(entry["topic"], "topic", list(topics), name)
    of = _selection(entry["of"], f"{name}: of")
    against = _selection(entry["against"], f"{name}: against") if "against" in entry else None
    _check_sides(name, STATISTICS[entry["statistic"]], entry["statistic"], of, against)
    published = Published(float(entry["published"]["value"]), entry["published"]["source"]) if "published" in entry else None
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
    panel = find_panel(entry["figure"], entry["panel"], f"{FILE.name}: {where}")
    given = entry["series"]
    series = tuple(given) if isinstance(given, list) else (given,)
    for one in series:
        check_series(panel, one, f"{FILE.name}: {where}")
    return Selection(entry["figure"], entry["panel"], series, _positions(entry.get("x"), where))


def _positions(x: Any, where: str) -> tuple[float, float] | Literal["last"] | None:
    if x is None or x == "last":
        return x
    low, high = x if isinstance(x, list) else (x, x)
    if low > high:
        raise InputError(f"{FILE.name}: {where}: x from {low:g} to {high:g}: the first is larger than the second")
    return float(low), float(high)


def _bound(entry: Mapping[str, Any], name: str) -> Bound:
    ((kind, value),) = entry.items()
    if kind == "below":
        return Bound(high=float(value))
    if kind == "above":
        return Bound(low=float(value))
    low, high = map(float, value)
    if low >= high:
        raise InputError(f"{FILE.name}: {name}: bound between {low:g} and {high:g}: the first must be smaller")
    return Bound(low, high)


def _known(name: str, kind: str, known: list[str], where: str) -> None:
    if name not in known:
        raise InputError(f"{FILE.name}: {where}: {unknown(name, kind, known)}")
