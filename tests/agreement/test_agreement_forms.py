"""Claims on the preconditioned input: judged on the text's form where a table holds no other, and said so."""

from pathlib import Path

import pandas as pd

from mesaopt.agreement import captions, page
from mesaopt.agreement.claims_file import read_claims
from mesaopt.agreement.judge import judge
from mesaopt.agreement.selections import Tables
from mesaopt.figures.registry import figure
from mesaopt.store.tables import write_table

ROOT = Path(__file__).parents[2]
PROBE, OTHER = "preconditioning-probe-gains-from-layers", "six-layers-against-one"


def given(folder: Path, *leave_out: str) -> Tables:
    """A table of figure 3, two seeds, without panels whose names have what is left out."""
    shown = [panel for panel in figure("fig3").panels if panel.kind != "matrix" and not any(w in panel.name for w in leave_out)]
    series = [f"layer {n}" for n in range(7)] + ["LSA-1", "LSA-6"]
    rows = [
        {"panel": panel.name, "series": name, "seed": seed, "x": float(x), "y": 1.0 + n + seed / 9, "value": float("nan")}
        for panel in shown
        for n, name in enumerate(series)
        for seed in (1, 11)
        for x in (10, 45)
    ]
    write_table(pd.DataFrame(rows).astype({"seed": "int32"}), "figure", folder / "fig3.parquet")
    return Tables(folder)


def forms(tables: Tables) -> dict[str, str]:
    rows = judge(read_claims(ROOT), tables, "paper")
    return dict(zip(rows["claim"], rows["form"], strict=True))


def test_a_table_without_the_text_s_form_beside_it_holds_that_form(tmp_path: Path) -> None:
    old, new = forms(given(tmp_path / "old", "_textbook")), forms(given(tmp_path / "new"))
    assert (old[PROBE], new[PROBE], old[OTHER]) == ("text", "", "")


def test_page_and_captions_say_so(tmp_path: Path) -> None:
    claims = read_claims(ROOT)
    rows = judge(claims, given(tmp_path / "old", "_textbook"), "paper")
    text = page.page(claims, rows, None, None, "paper")
    assert "of the text's recursion, not of the published one" in text and "(text's form)" in text
    assert "on the text's recursion" in captions.with_claims("**Title.**\n", "fig3", claims, rows)
    rows = judge(claims, given(tmp_path / "new"), "paper")
    assert "text's" not in page.page(claims, rows, None, None, "paper").partition("## Changes")[0]
    assert "on the text's recursion" not in captions.with_claims("**Title.**\n", "fig3", claims, rows)
