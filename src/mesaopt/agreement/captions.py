"""The claims of a figure with the paper's value and ours, at the end of its caption; the rest of a caption is written by hand."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from mesaopt.agreement.claims import Claim, Claims
from mesaopt.agreement.claims_file import read_claims
from mesaopt.agreement.intervals import NOT_RUN
from mesaopt.agreement.page import Row, bound, estimate
from mesaopt.agreement.words import number
from mesaopt.errors import InputError
from mesaopt.figures.registry import plain
from mesaopt.store.tables import atomic_path, read_table

#: begins the part that is written by the program: a comment of reStructuredText
MARK = ".. From here on by `snakemake write_page`, from the recorded tables; do not edit."
#: where the table has the text's form of the preconditioned input alone
_FORM = ", on the text's recursion: the table was recorded before the published one was computed"


def captions_stage(project: Path, agreement: Path, captions: Path) -> None:
    """Write the claims of table `agreement` into every `captions`/FIGURE.rst whose figure they are about.

    Raises `InputError` in one line when there are no captions.
    """
    written = sorted(captions.glob("*.rst"))
    if not written:
        raise InputError(f"{captions}: no captions (*.rst) found")
    claims, judged = read_claims(project), read_table(agreement, "agreement")
    for path in written:
        text = path.read_text(encoding="utf-8")
        wanted = with_claims(text, path.stem, claims, judged)
        if wanted != text:
            with atomic_path(path) as temporary:
                temporary.write_text(wanted, encoding="utf-8")


def with_claims(caption: str, figure: str, claims: Claims, judged: pd.DataFrame) -> str:
    """A caption (of the figure v2/fig3 its file is called v2-fig3) that ends with the claims that were judged on its table."""
    by_hand = caption.partition(MARK)[0].rstrip() + "\n"
    rows: dict[str, Row] = {str(row.claim): row for row in judged.itertuples()}
    mine = [claim for claim in claims.claims if plain(claim.of.figure) == figure and rows[claim.name].verdict != NOT_RUN]
    if not mine:
        return by_hand
    made_at = rows[mine[0].name].made_at
    settings = "the paper's settings" if made_at == "paper" else f"the scale {made_at}"
    head = f"Claims on this figure, at {settings}, with 95 % intervals over training seeds:"
    return "\n".join([by_hand, MARK, "", head, "", *(line for claim in mine for line in _lines(claim, rows[claim.name]))])


def _lines(claim: Claim, row: Row) -> Iterator[str]:
    paper = f"the paper's {number(row.published)}, " if number(row.published) else ""
    yield f"* {claim.sentence}"
    seeds = f"{row.seeds} seed{'' if row.seeds == 1 else 's'}"
    yield f"  Ours {estimate(row)}, {paper}bound {bound(row)}, {seeds}: **{row.verdict}**{_FORM if row.form else ''}."
    yield ""
