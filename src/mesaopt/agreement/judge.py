"""The verdict on every claim, from the tables of figures: a row of table `agreement` each."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from mesaopt.agreement.claims import Claim, Claims, settings_of
from mesaopt.agreement.claims_file import read_claims
from mesaopt.agreement.forms import textbook
from mesaopt.agreement.intervals import NOT_RUN, VERDICTS, Judgement, holm, judge_values
from mesaopt.agreement.published_claims import published_value, published_values
from mesaopt.agreement.selections import NotMeasured, Tables, values_by_seed
from mesaopt.agreement.splits import other_split, scored
from mesaopt.agreement.teachers import by_teacher
from mesaopt.errors import InputError
from mesaopt.store.tables import write_table


def judge_stage(
    project: Path,
    tables: Path,
    scale: str,
    without: Sequence[str],
    out: Path,
    published: Path | None = None,
    teachers: Path | None = None,
) -> None:
    """Judge the claims of `project`/config/claims.yaml on the figure tables in `tables` and write table `agreement` at `out`.

    Where there is a folder of `published` tables, the claims are computed on these as well; a line is printed for every value in
    claims.yaml that they contradict. If there is a path for it, table `teachers` is written, too.

    Claims are judged at the scales that they are meant for, and not on the figures in `without`. A table, panel or series that
    is not there gives the verdict "not run". Prints a line that counts the verdicts. Raises `InputError` in one line for a wrong
    claim, a damaged table, or when there is none of the tables.
    """
    claims = read_claims(project)
    wanted = [name for name in claims.figures(scale) if name not in without]
    if wanted and not any((tables / f"{name}.parquet").exists() for name in wanted):
        raise InputError(f"{tables}: none of the tables that claims need is here: {', '.join(wanted)}")
    theirs = {} if published is None else published_values(project, published, claims)
    judged = judge(claims, Tables(tables), scale, without, theirs)
    write_table(judged, "agreement", out)
    if teachers is not None:
        write_table(by_teacher(claims, Tables(tables), scale), "teachers", teachers)
    print(f"scale {scale}: {count_line(judged)}")


def judge(
    claims: Claims, tables: Tables, scale: str, without: Sequence[str] = (), published: Mapping[str, float] = MappingProxyType({})
) -> pd.DataFrame:
    """Table `agreement`: all claims in their order, those of other scales included; `published`: what was computed by claim."""
    found = [_measure(claim, tables, scale, without) for claim in claims.claims]
    others = [_on_the_other_split(claim, tables, scale, without) for claim in claims.claims]
    corrected = holm([judgement.p if judgement else math.nan for judgement, _ in found])
    rows = [
        _row(claim, judgement, p, reason)
        | {"published": published_value(claim, published.get(claim.name, math.nan))}
        | {"made_at": " and ".join(_scales(claim, tables, scale))}
        | {"form": "text" if judgement and textbook(claim, tables) else ""}
        | other
        for claim, (judgement, reason), p, other in zip(claims.claims, found, corrected, others, strict=True)
    ]
    return pd.DataFrame(rows)


def _measure(claim: Claim, tables: Tables, scale: str, without: Sequence[str]) -> tuple[Judgement | None, str]:
    """The judgement, or why there is none."""
    if others := [made for made in _scales(claim, tables, scale) if made not in claim.scales]:
        meant = f"meant for the scale {' or '.join(claim.scales)}"
        return None, meant if others[0] == settings_of(scale) else f"{meant}, recorded at {others[0]}"
    if left_out := [name for name in claim.figures if name in without]:
        return None, f"{' and '.join(left_out)} left out (agreement_without)"
    try:
        values = values_by_seed(claim, tables)
    except NotMeasured as missing:
        return None, str(missing)
    return judge_values(list(values.values()), claim.bound, claim.measured.scale), ""


def _scales(claim: Claim, tables: Tables, scale: str) -> list[str]:
    """The scales at which the tables of a claim were made, each once."""
    return list(dict.fromkeys(tables.scale(name, scale) for name in claim.figures))


def _row(claim: Claim, judgement: Judgement | None, p_family: float, reason: str) -> dict[str, Any]:
    measured = judgement or Judgement(0, math.nan)
    return {
        "claim": claim.name,
        "topic": claim.topic,
        "sentence": claim.sentence,
        "source": claim.source,
        "figures": " ".join(claim.figures),
        "statistic": claim.statistic,
        "seeds": measured.seeds,
        "estimate": measured.estimate,
        "low": measured.low,
        "high": measured.high,
        "bound_low": _finite(claim.bound.low),
        "bound_high": _finite(claim.bound.high),
        "p": measured.p,
        "p_family": p_family,
        "needed": measured.needed,
        "verdict": measured.verdict(measured.p) if judgement else NOT_RUN,
        "verdict_family": measured.verdict(p_family) if judgement else NOT_RUN,
        "reason": reason,
    }


def _on_the_other_split(claim: Claim, tables: Tables, scale: str, without: Sequence[str]) -> dict[str, Any]:
    """How the claim's probes are scored ("": it is about none), and what the same claim is where they are scored otherwise."""
    other = other_split(claim)
    judgement = None if other is None else _measure(other, tables, scale, without)[0]
    measured = judgement or Judgement(0, math.nan)
    return {
        "scored": "" if other is None else scored(claim),
        "other_estimate": measured.estimate,
        "other_low": measured.low,
        "other_high": measured.high,
        "other_verdict": measured.verdict(measured.p) if judgement else NOT_RUN,
    }


def _finite(edge: float) -> float:
    return edge if math.isfinite(edge) else math.nan


def count_line(judged: pd.DataFrame) -> str:
    """How many claims got which verdict, in one line."""
    counts = judged["verdict"].value_counts()
    given = [f"{verdict} {counts[verdict]}" for verdict in VERDICTS if verdict in counts.index]
    return f"{len(judged)} claims - {', '.join(given)}"
