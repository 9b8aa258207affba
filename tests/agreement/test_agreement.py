"""Verdicts on claims from planted tables: agreement holds, disagreement is found, what is missing is named. And the page."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from agreement_tables import ROOT, SEEDS, cell_rows, curve_rows, one_layer, selection, shipped, weights_of_one_layer, write_figure
from matplotlib.transforms import Bbox

from mesaopt.agreement import captions, draw, page
from mesaopt.agreement.intervals import FAILS, HOLDS, NOT_RUN, TOO_FEW, UNDECIDED
from mesaopt.agreement.judge import count_line, judge, judge_stage
from mesaopt.agreement.selections import NotMeasured, Tables, select
from mesaopt.agreement.spread import spread_stage
from mesaopt.agreement.statistics import STATISTICS
from mesaopt.errors import InputError
from mesaopt.figures.options import Style
from mesaopt.store.tables import write_table

AVERAGE, EVERYWHERE = "one-layer-is-gd", "one-layer-is-gd-everywhere"


def verdicts(judged: pd.DataFrame) -> dict[str, str]:
    return dict(zip(judged["claim"], judged["verdict"], strict=True))


def test_planted_agreement_holds(tmp_path: Path) -> None:
    names = [claim.name for claim in shipped().claims if claim.topic == "one-layer" and claim.figures == ("fig2",)]
    judged = judge(shipped(*names), Tables(write_figure(tmp_path, "fig2", *one_layer())), "recorded")
    assert verdicts(judged) == dict.fromkeys(names, HOLDS)
    assert set(judged["verdict_family"]) == {HOLDS} and set(judged["seeds"]) == {5}


def test_a_planted_disagreement_is_found(tmp_path: Path) -> None:
    """50 % above from t = 31 on: too far at a position, and as an average."""
    judged = judge(shipped(AVERAGE, EVERYWHERE), Tables(write_figure(tmp_path, "fig2", *one_layer(gap=0.5))), "paper")
    assert verdicts(judged) == {AVERAGE: FAILS, EVERYWHERE: FAILS}
    gap = judged.set_index("claim").loc[EVERYWHERE]
    assert gap["estimate"] == pytest.approx(0.5) and gap["low"] == pytest.approx(0.5) == gap["high"]


def test_a_gap_that_averages_out_is_found_where_it_is(tmp_path: Path) -> None:
    judged = judge(shipped(AVERAGE, EVERYWHERE), Tables(write_figure(tmp_path, "fig2", *one_layer(gap=0.12))), "paper")
    assert verdicts(judged) == {AVERAGE: HOLDS, EVERYWHERE: FAILS}


def test_structure_is_averaged_over_heads(tmp_path: Path) -> None:
    write_figure(tmp_path, "fig2", *one_layer())
    tables = Tables(write_figure(tmp_path, "fig13", *weights_of_one_layer()))
    judged = judge(shipped("weights-structure-is-learned", "weights-diagonal-keys", "learning-rate-read-off"), tables, "paper")
    assert judged["estimate"].tolist() == pytest.approx([0.0335 / 0.032, 0.6, 30.0])
    assert judged["verdict"].tolist() == [HOLDS, FAILS, HOLDS]


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    judged = judge(shipped(AVERAGE), Tables(write_figure(tmp_path, "fig2", *one_layer(seeds=(1,)))), "paper")
    assert verdicts(judged) == {AVERAGE: TOO_FEW}
    row = judged.iloc[0]
    assert row["seeds"] == 1 and np.isfinite(row["estimate"]) and np.isnan(row["low"])


def test_seeds_that_disagree_leave_a_claim_undecided(tmp_path: Path) -> None:
    noisy = [
        curve_rows("mse_1", {"GD-1": np.ones_like, "LSA-1": lambda t, f=f: f * np.ones(len(t))}, seeds=(seed,))
        for f, seed in zip((0.9, 1.15, 1.0), SEEDS, strict=False)
    ]
    judged = judge(shipped(AVERAGE), Tables(write_figure(tmp_path, "fig2", *noisy)), "paper")
    assert verdicts(judged) == {AVERAGE: UNDECIDED}


def test_seeds_that_only_one_side_has_do_not_count(tmp_path: Path) -> None:
    sides = curve_rows("mse_1", {"GD-1": np.ones_like}), curve_rows("mse_1", {"LSA-1": np.ones_like}, seeds=(1, 11, 7))
    assert judge(shipped(AVERAGE), Tables(write_figure(tmp_path, "fig2", *sides)), "paper")["seeds"].tolist() == [2]


@pytest.mark.parametrize(
    ("rows", "scale", "without", "reason"),
    [
        (None, "recorded", [], "there is no table of fig2"),
        (cell_rows("layer_1_head_1_QK", {"LSA-1": 1.0}), "recorded", [], "the table of fig2 has no panel mse_1"),
        (curve_rows("mse_1", {"LSA-1": np.ones_like}), "recorded", [], "panel mse_1 of fig2 has no GD-1"),
        (one_layer()[0], "smoke", [], "meant for the scale paper or laptop"),
        (one_layer()[0], "paper", ["fig2"], "fig2 left out (agreement_without)"),
    ],
)
def test_what_is_missing_is_not_run(
    tmp_path: Path, rows: pd.DataFrame | None, scale: str, without: list[str], reason: str
) -> None:
    if rows is not None:
        write_figure(tmp_path, "fig2", rows)
    judged = judge(shipped(AVERAGE), Tables(tmp_path), scale, without)
    assert judged["verdict"].tolist() == [NOT_RUN] and judged["reason"].tolist() == [reason]


@pytest.mark.parametrize(("made", "reason"), [("paper", ""), ("smoke", "meant for the scale paper or laptop, recorded at smoke")])
def test_a_recorded_table_is_judged_at_the_scale_of_its_record(tmp_path: Path, made: str, reason: str) -> None:
    tables = Tables(write_figure(tmp_path / "tables", "fig2", *one_layer()))
    (tmp_path / "records").mkdir()
    (tmp_path / "records/fig2.json").write_text(json.dumps({"scale": made}))
    judged = judge(shipped(AVERAGE), tables, "recorded")
    assert judged["reason"].tolist() == [reason] and judged["verdict"].tolist() == [NOT_RUN if reason else HOLDS]


def test_a_position_that_is_not_there_is_not_run(tmp_path: Path) -> None:
    short = curve_rows("training_loss_1", {"LSA-1": np.ones_like}, x=np.arange(0, 501, 100))
    judged = judge(shipped("one-layer-loss"), Tables(write_figure(tmp_path, "fig2", short)), "paper")
    assert judged["reason"].tolist() == ["panel training_loss_1 of fig2 has no values at x = 3400 to 3400"]


def test_a_statistic_that_is_no_number_is_not_run(tmp_path: Path) -> None:
    rows = curve_rows("mse_1", {"LSA-1": np.ones_like, "GD-1": np.zeros_like})
    with np.errstate(divide="ignore"):
        judged = judge(shipped(EVERYWHERE), Tables(write_figure(tmp_path, "fig2", rows)), "paper")
    assert judged["reason"].tolist() == ["largest_gap is no finite number for seed 1"]


def test_a_damaged_table_is_an_error(tmp_path: Path) -> None:
    path = write_figure(tmp_path, "fig2", *one_layer()) / "fig2.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"fig2.parquet: damaged"):
        judge(shipped(AVERAGE), Tables(tmp_path), "paper")


def test_statistics_by_hand() -> None:
    a, b = pd.Series([4.0, 2.0], index=[1.0, 2.0]), pd.Series([1.0, 1.0, 9.0], index=[1.0, 2.0, 3.0])
    c = pd.Series([8.0], index=[1.0])
    found = {
        "mean": STATISTICS["mean"].function([a, c], []),
        "smallest_mean": STATISTICS["smallest_mean"].function([c, a], []),
        "largest_mean": STATISTICS["largest_mean"].function([a, c], []),
        "total": STATISTICS["total"].function([a, c], []),
        "smallest_total": STATISTICS["smallest_total"].function([c, a], []),
        "ratio": STATISTICS["ratio"].function([a], [c]),
        "ratio_of_ratios": STATISTICS["ratio_of_ratios"].function([a, c], [c, a]),
        "largest_gap": STATISTICS["largest_gap"].function([a], [b]),
        "largest_ratio": STATISTICS["largest_ratio"].function([a], [b]),
        "largest_step": STATISTICS["largest_step"].function([a, c, a], []),
        "place_of_minimum": STATISTICS["place_of_minimum"].function([c, a, c], []),
        "rank_correlation": STATISTICS["rank_correlation"].function([a, b, c], [c, b, a]),
    }
    expected = {
        "mean": 5.5,
        "smallest_mean": 3.0,
        "largest_mean": 8.0,
        "total": 7.0,
        "smallest_total": 6.0,
        "ratio_of_ratios": (3 / 8) ** 2,
        "ratio": 3 / 8,
        "largest_gap": 3.0,
        "largest_ratio": 4.0,
        "largest_step": 8 / 3,
    }
    assert found == pytest.approx(expected | {"place_of_minimum": 1.0, "rank_correlation": -1.0})
    assert STATISTICS["largest_step"].function([a], []) == 0.5, "of one series: along x"


def test_selections(tmp_path: Path) -> None:
    table = pd.concat(one_layer())
    last = select(table, selection("training_loss_1", "Mesa-1", "LSA-1", x="last"))
    assert [curve.index.tolist() for curve in last[1]] == [[5000.0], [5000.0]] and list(last) == list(SEEDS)
    assert select(table, selection("mse_1", "GD-1", x=(10.0, 12.0)))[11][0].index.tolist() == [10.0, 11.0, 12.0]
    with pytest.raises(NotMeasured, match="has no values at x = 60 to 70"):
        select(table, selection("mse_1", "GD-1", x=(60.0, 70.0)))


def test_every_claim_finds_its_curves_in_tables_as_they_are_collected(collected_figures: Path, tmp_path: Path) -> None:
    """Synthetic results are shorter than real ones: positions may be missing, but no panel and no series."""
    judged = judge(shipped(), Tables(collected_figures), "paper")
    missing = judged[judged["verdict"] == NOT_RUN]
    assert missing["reason"].str.contains("has no values at x = ").all(), missing["reason"].tolist()
    assert len(judged) - len(missing) >= 25
    for name in ("agreement.png", "agreement.pdf"):
        write_table(judged, "agreement", tmp_path / "agreement.parquet")
        draw.draw_stage(ROOT, tmp_path / "agreement.parquet", "paper", {}, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 20_000


def judged_examples() -> pd.DataFrame:
    """A verdict of each kind on five claims, as planted; the others were not run."""
    judged = judge(shipped(), Tables(Path("nowhere")), "recorded")
    planted = [
        (AVERAGE, 0.97, 0.96, 0.98, HOLDS, UNDECIDED),
        (EVERYWHERE, 0.2, 0.19, 0.21, FAILS, FAILS),
        ("one-layer-loss", 0.9, 0.85, 0.95, UNDECIDED, UNDECIDED),
        ("one-layer-compresses", 1.0, np.nan, np.nan, TOO_FEW, TOO_FEW),
        ("preconditioning-probe-falls-with-every-layer", 1.8, 1.7, 1.9, FAILS, FAILS),
    ]
    columns = ["estimate", "low", "high", "verdict", "verdict_family"]
    for name, *values in planted:
        judged.loc[judged["claim"] == name, columns] = values
    judged.loc[judged["verdict"] == UNDECIDED, "needed"] = 17.0
    return judged


def test_the_page_says_where_tables_are_of_another_scale() -> None:
    judged = judged_examples()
    assert set(judged["made_at"]) == {"paper"}
    judged.loc[judged["claim"] == AVERAGE, "made_at"] = "laptop"
    assert "\n\nMade at another scale: fig2 at `laptop`.\n\n" in page.page(shipped(), judged, None, None, "recorded")


def test_the_page_says_what_was_found() -> None:
    text = page.page(shipped(), judged_examples(), None, None, "recorded")
    assert "Made at another scale" not in text
    assert "holds 1, fails 2, undecided 1, undecided: too few seeds 1, not run" in text
    assert "| 0.970 (0.960 to 0.980) | 0.95 to 1.05 | 0.993 |" in text and "| holds | undecided |" in text
    assert (
        "reproduced in part, as far as it was judged (1 of 4 claims judged hold, 1 fail, 2 undecided, 4 of 8 claims not run)"
        in text
    )
    assert "Fails. Ours is 0.200 where 0.1 is the bound; the published 0.0246 would hold." in text
    assert "the published 1.9 would fail. The last layers spend" in text, "what claims.yaml says of that verdict"
    assert "- there is no table of fig12: `fixed-teacher-is-no-gd`" in text
    assert re.search(r"\*\*Control: one system for all sequences, where they should not\*\* .+ \| not run \| ", text)


@pytest.mark.parametrize(
    ("counts", "outcome"),
    [
        ({HOLDS: 3}, "reproduced"),
        ({HOLDS: 3, NOT_RUN: 2}, "reproduced"),
        ({HOLDS: 1, FAILS: 2}, "in_part"),
        ({FAILS: 2, NOT_RUN: 1}, "not_reproduced"),
        ({FAILS: 1, UNDECIDED: 1}, "undecided"),
        ({TOO_FEW: 1}, "undecided"),
    ],
)
def test_outcomes(counts: dict[str, int], outcome: str) -> None:
    assert page.outcome(counts) == outcome


def test_the_committed_page_is_that_of_the_recorded_tables(tmp_path: Path) -> None:
    """`snakemake write_page` makes it."""
    recorded = ROOT / "results/recorded"
    others = tmp_path / "teachers.parquet"
    judge_stage(ROOT, recorded / "tables", "recorded", [], tmp_path / "agreement.parquet", teachers=others)
    spread_stage(recorded / "tables", shipped().figures("recorded"), tmp_path / "spread.parquet")
    curves = recorded / "curves.parquet" if (recorded / "curves.parquet").exists() else None
    tables = (tmp_path / "agreement.parquet", curves, tmp_path / "spread.parquet")
    page.page_stage(ROOT, *tables, "recorded", tmp_path / "page.md", others)
    assert (ROOT / "docs/agreement.md").read_text() == (tmp_path / "page.md").read_text()


def test_no_measurement_is_counted_as_two_claims() -> None:
    judged = judge(shipped(), Tables(ROOT / "results/recorded/tables"), "recorded").dropna(subset="estimate")
    twice = judged.duplicated(["estimate", "low", "high", "bound_low", "bound_high"], keep=False)
    assert judged.loc[twice, "claim"].tolist() == []


def test_the_committed_captions_end_with_the_claims_on_the_recorded_tables(tmp_path: Path) -> None:
    judge_stage(ROOT, ROOT / "results/recorded/tables", "recorded", [], tmp_path / "agreement.parquet")
    written = shutil.copytree(ROOT / "workflow/report", tmp_path / "report")
    captions.captions_stage(ROOT, tmp_path / "agreement.parquet", written)
    for path in written.iterdir():
        assert path.read_text() == (ROOT / "workflow/report" / path.name).read_text(), "snakemake write_page"


def test_a_caption_ends_with_the_claims_on_its_figure_and_their_numbers() -> None:
    judged = judged_examples()
    names = [claim.name for claim in shipped().claims if claim.of.figure == "fig2"]
    once = captions.with_claims("**Title.**\n", "fig2", shipped(), judged)
    assert once.startswith("**Title.**\n\n" + captions.MARK)
    for row in judged[judged["claim"].isin(names)].itertuples():
        assert (f"* {row.sentence}\n  Ours {page.estimate(row)}, " in once) is (row.verdict != NOT_RUN)
    assert captions.with_claims(once, "fig2", shipped(), judged) == once
    assert "at the paper's settings, with" in once
    assert "at the scale laptop, with" in captions.with_claims(once, "fig2", shipped(), judged.assign(made_at="laptop"))
    assert captions.with_claims(once, "a-figure-without-claims", shipped(), judged) == "**Title.**\n"


def test_a_folder_without_captions_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no captions \(\*\.rst\) found"):
        captions.captions_stage(ROOT, tmp_path / "agreement.parquet", tmp_path)


def test_every_claim_is_a_row_of_the_figure() -> None:
    judged = judged_examples()
    canvas = draw.compose(shipped(), judged, "recorded", Style()).axes[0]
    texts = [" ".join(text.get_text().split()) for text in canvas.texts]
    assert all(row.sentence in texts for row in judged.itertuples())
    assert "0.970 [0.960, 0.980]" in texts and "holds*" in texts and "1 seed" in texts
    marks = {line.get_marker() for line in canvas.get_lines()}
    assert {"o", "X", "s", "D"} <= marks


@pytest.mark.parametrize(("estimate", "low", "high"), [(0.0254, -0.000101, 0.0509), (0.000333, -5.51e-05, 0.000722)])
def test_texts_of_a_row_do_not_touch(estimate: float, low: float, high: float) -> None:
    judged = judged_examples()
    wide = {"estimate": estimate, "low": low, "high": high, "bound_low": 0.00066, "bound_high": 0.0011, "published": 0.00088}
    judged.loc[judged["claim"] == "one-layer-loss", list(wide)] = list(wide.values())
    canvas = draw.compose(shipped(), judged, "recorded", Style()).axes[0]
    canvas.figure.draw_without_rendering()
    rows: dict[float, list[Bbox]] = {}
    for text in canvas.texts:
        rows.setdefault(text.get_position()[1], []).append(text.get_window_extent())
    for boxes in rows.values():
        ordered = sorted(boxes, key=lambda box: box.x0)
        assert all(left.x1 < right.x0 for left, right in pairwise(ordered)) and ordered[-1].x1 < canvas.figure.bbox.x1


def test_the_claims_side_is_left_of_the_bound() -> None:
    for row in judged_examples().itertuples():
        middle = np.nanmean([row.bound_low, row.bound_high])
        if np.isnan(row.bound_low) and middle <= 0:
            good, bad = middle - 0.01, middle + 0.01
        elif np.isnan(row.bound_low):
            good, bad = 0.5 * middle, 2 * middle
        elif np.isnan(row.bound_high):
            good, bad = 2 * middle, 0.5 * middle
        else:
            good, bad = middle, 2 * row.bound_high
        assert draw.relative(row, good) < 1 < draw.relative(row, bad)
        assert draw.relative(row, row.bound_high if np.isnan(row.bound_low) else row.bound_low) == pytest.approx(1)


def test_counts_in_one_line() -> None:
    assert count_line(judged_examples()).startswith(f"{len(shipped().claims)} claims - holds 1, fails 2, undecided 1")
