"""Every claim with its verdict, for the page: judged on the very tables that the page shows."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mesaopt.agreement.claims import Claim, Claims
from mesaopt.agreement.judge import judge
from mesaopt.agreement.page import Row, bound, estimate
from mesaopt.agreement.selections import Tables
from mesaopt.agreement.words import number


def verdicts(
    claims: Claims, tables: Path, scale: str, published: Mapping[str, float] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """A mapping per claim, in the order of the file: its figure and panel, sentence, numbers in words, verdicts and reason.

    `published`: what published tables give, by claim. Raises `InputError` for a damaged table.
    """
    judged = judge(claims, Tables(tables), scale, published=published)
    rows: dict[str, Row] = {str(row.claim): row for row in judged.itertuples()}
    return [_claim(claim, claims, rows[claim.name]) for claim in claims.claims]


def _claim(claim: Claim, claims: Claims, row: Row) -> dict[str, Any]:
    return {
        "name": claim.name,
        "topic": claims.topics[claim.topic].title,
        "figure": claim.of.figure,
        "panel": claim.of.panel,
        "figures": list(claim.figures),
        "sentence": claim.sentence,
        "source": claim.source,
        "ours": estimate(row),
        "bound": bound(row),
        "paper": number(row.published),
        "seeds": int(row.seeds),
        "verdict": row.verdict,
        "verdict_family": row.verdict_family,
        "note": row.reason or claim.views.get(row.verdict, ""),
    }
