"""The page on agreement, in Markdown: what was reproduced, what was not, and what is thought of it."""

import math
from collections import Counter
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mesaopt.agreement import bands, compared, deciding, forms, splits
from mesaopt.agreement import teachers as of_teachers
from mesaopt.agreement.claims import OUTCOMES, Claim, Claims, Topic, settings_of
from mesaopt.agreement.claims_file import read_claims
from mesaopt.agreement.intervals import FAILS, HOLDS, NOT_RUN
from mesaopt.agreement.judge import count_line
from mesaopt.agreement.words import edges, interval, measured, number
from mesaopt.figures.registry import plain
from mesaopt.store.tables import atomic_path, read_table

METHOD = """\
How this was judged: every claim is one statistic of the values behind a figure, computed for each training seed on its own. Its
estimate is the mean over training seeds (of ratios, of their logarithms), its interval the 95 % interval of Student's t. A claim
*holds* when the whole interval is on the right side of its bound, *fails* when the whole interval is on the wrong side, and is
*undecided* in between; one training seed has no interval and decides nothing. *With all claims* is the verdict that remains when
the error of 5 % is shared among all claims (Holm's correction). Hand-written algorithms are learned once, with the first seed
of the scale, and scored on every seed's sequences. Bounds, statistics and sources: `config/claims.yaml`."""
#: a row of table `agreement`, its columns as attributes
Row = Any


def page_stage(
    project: Path, agreement: Path, curves: Path | None, spread: Path, scale: str, out: Path, teachers: Path | None = None
) -> None:
    """Write the page on the tables `agreement`, `spread` and, where there are such, `curves` and `teachers`.

    Raises `InputError` in one line.
    """
    published = None if curves is None else read_table(curves, "curves")
    others = None if teachers is None else read_table(teachers, "teachers")
    judged, spreads = read_table(agreement, "agreement"), read_table(spread, "spread")
    text = page(read_claims(project), judged, published, spreads, scale, others)
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


def page(
    claims: Claims,
    judged: pd.DataFrame,
    curves: pd.DataFrame | None,
    spread: pd.DataFrame | None,
    scale: str,
    others: pd.DataFrame | None = None,
) -> str:
    """Markdown: what was asked, found and doubted; what fails, what is undecided; a section per topic; both ways of scoring
    probes; published curves, bands, edits of bounds.
    """
    rows: dict[str, Row] = {str(row.claim): row for row in judged.itertuples()}
    parts = [
        "# Agreement with the paper",
        f"Made by `snakemake agreement` from the tables of the scale `{scale}`; do not edit.",
        "## In five minutes",
        f"{count_line(judged)}.",
        _summary(claims, list(rows.values())),
        METHOD,
        *forms.note(_of_the_text(rows)),
        *deciding.failing(claims, rows),
        *deciding.undecided(claims, rows),
        *(part for topic in claims.topics for part in _topic(claims, topic, rows, scale)),
        *splits.section(list(rows.values())),
        *of_teachers.section(claims, [] if others is None else list(others.itertuples())),
        *compared.section(curves),
        *bands.section(spread),
        *_not_run(rows),
        *_changes(claims),
    ]
    return "\n\n".join(parts) + "\n"


def _of_the_text(rows: Mapping[str, Row]) -> list[str]:
    """Figures whose tables hold the preconditioned input of the text alone."""
    return list(dict.fromkeys(name for row in rows.values() if row.form for name in row.figures.split()))


def _summary(claims: Claims, rows: list[Row]) -> str:
    """A table for who has five minutes, a line per topic."""
    head = "| asked | found | what would change our mind |\n|---|---|---|"
    lines = [
        f"| {' | '.join((_asked(topic), _found(topic, [row for row in rows if row.topic == name]), topic.doubt))} |"
        for name, topic in claims.topics.items()
    ]
    return "\n".join([head, *lines])


def _asked(topic: Topic) -> str:
    return f"**{topic.title}** {topic.question}".rstrip()


def _found(topic: Topic, rows: list[Row]) -> str:
    """What the verdicts of one topic amount to, and what is thought of that."""
    counts = Counter(row.verdict for row in rows)
    rest, judged = counts[NOT_RUN], len(rows) - counts[NOT_RUN]
    if not judged:
        return "not run"
    found = outcome(counts)
    words = [_all(judged)] if found == "reproduced" else _how_many(counts, judged)
    words += [f"{rest} of {len(rows)} claims not run"] if rest else []
    so_far = ", as far as it was judged" if rest else ""
    view = f" {topic.views[found]}" if found in topic.views else ""
    return f"{OUTCOMES[found]}{so_far} ({', '.join(words)}).{view}"


def outcome(counts: Mapping[str, int]) -> str:
    """One of `OUTCOMES`, from how often each verdict was given."""
    judged = sum(counts.values()) - counts.get(NOT_RUN, 0)
    holds, fails = counts.get(HOLDS, 0), counts.get(FAILS, 0)
    if holds == judged:
        return "reproduced"
    return "in_part" if holds else "not_reproduced" if fails == judged else "undecided"


def _how_many(counts: Mapping[str, int], judged: int) -> list[str]:
    holds, fails = counts[HOLDS], counts[FAILS]
    parts = {"fail": fails, "undecided": judged - holds - fails}
    return [f"{holds} of {judged} claims judged hold", *(f"{count} {name}" for name, count in parts.items() if count)]


def _all(judged: int) -> str:
    return "the one claim judged holds" if judged == 1 else f"all {judged} claims judged hold"


def _topic(claims: Claims, topic: str, rows: Mapping[str, Row], scale: str) -> list[str]:
    mine = [claim for claim in claims.claims if claim.topic == topic and rows[claim.name].verdict != NOT_RUN]
    if not mine:
        return []
    header = (
        "| claim | where | ours (95 %) | bound | paper | seeds | verdict | with all claims |\n|---|---|---|---|---|---|---|---|"
    )
    table = "\n".join([header, *(_line(claim, rows[claim.name]) for claim in mine)])
    drawn = {name for claim in mine for name in claim.figures}
    parts = [*_picture(claims, topic, drawn, scale), *_made_elsewhere(mine, rows, scale), table, *_views(mine, rows)]
    return [f"## {claims.topics[topic].title}", *parts]


def _made_elsewhere(mine: list[Claim], rows: Mapping[str, Row], scale: str) -> list[str]:
    """Which tables of a topic were made at other settings than those of the page's scale."""
    others = [(" and ".join(claim.figures), rows[claim.name].made_at) for claim in mine]
    found = dict.fromkeys(f"{names} at `{made_at}`" for names, made_at in others if made_at != settings_of(scale))
    return [f"Made at another scale: {', '.join(found)}."] if found else []


def _picture(claims: Claims, topic: str, drawn: Container[str], scale: str) -> list[str]:
    """The topic's figure, where `snakemake write_page` puts it; none of whose claims were not run."""
    name = claims.topics[topic].figure
    asked = {one for claim in claims.claims if claim.topic == topic for one in claim.figures}
    if scale != "recorded" or not name or (name in asked and name not in drawn):
        return []
    return [f"![{name}, drawn from the recorded tables](figures/{plain(name)}.png)"]


def _line(claim: Claim, row: Row) -> str:
    verdict = (row.verdict if row.verdict == HOLDS else f"**{row.verdict}**") + (" (text's form)" if row.form else "")
    cells = [claim.sentence, claim.source, estimate(row), bound(row), number(row.published), str(row.seeds), verdict]
    return f"| {' | '.join(cell.replace('|', '/') for cell in [*cells, row.verdict_family])} |"


def _views(claims: list[Claim], rows: Mapping[str, Row]) -> list[str]:
    """What is thought of single verdicts; of failures without a comment, the fact."""
    lines = []
    for claim in claims:
        verdict = rows[claim.name].verdict
        beyond = _beyond(rows[claim.name]) if verdict == FAILS else ""
        view = " ".join(filter(None, [beyond, claim.views.get(verdict)]))
        if view:
            lines.append(f"- *{claim.sentence}* {verdict.capitalize()}. {view}")
    return ["\n".join(lines)] if lines else []


def _beyond(row: Row) -> str:
    """By how much a claim fails, and what the published numbers say."""
    edge = row.bound_high if row.estimate > row.bound_high else row.bound_low
    inside = not (row.published > row.bound_high or row.published < row.bound_low)
    published = (
        "" if math.isnan(row.published) else f"; the published {number(row.published)} would {'hold' if inside else 'fail'}"
    )
    return f"Ours is {measured(row.estimate)} where {number(edge)} is the bound{published}."


def _not_run(rows: Mapping[str, Row]) -> list[str]:
    missing = [row for row in rows.values() if row.verdict == NOT_RUN]
    if not missing:
        return []
    reasons = dict.fromkeys(row.reason for row in missing)
    lines = [f"- {reason}: {'; '.join(f'`{row.claim}`' for row in missing if row.reason == reason)}" for reason in reasons]
    return ["## Not run", "\n".join(lines)]


def _changes(claims: Claims) -> list[str]:
    if not claims.changes:
        return ["## Changes of bounds", "None since the first evaluation."]
    lines = [
        f"- {change.date}, {', '.join(f'`{name}`' for name in change.claims)}: {change.what}. {change.why}"
        for change in claims.changes
    ]
    return ["## Changes of bounds", "\n".join(lines)]


def estimate(row: Row) -> str:
    """Estimate and interval."""
    return interval(row.estimate, row.low, row.high)


def bound(row: Row) -> str:
    """The bound in words."""
    return edges(row.bound_low, row.bound_high)
