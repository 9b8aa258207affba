"""Claims on the one system of figure 12, on others: planted spreads over seeds and over teachers are found apart."""

import numpy as np
import pytest
from agreement_tables import curve_rows, shipped, write_figure

from mesaopt.agreement import teachers
from mesaopt.agreement.intervals import HOLDS
from mesaopt.agreement.selections import Tables
from mesaopt.store.tables import check_table

CLAIM = "fixed-teacher-is-no-gd"
SEEDS = (1, 11, 111)
#: level of LSA-1 by teacher, in units of GD-1, and the spread over seeds of its logarithm
LEVELS, SPREAD = (0.1, 0.2, 0.4), 0.05


def rows(panel, level):
    factors = np.exp(SPREAD * np.array([-1.0, 0.0, 1.0]))
    return [
        curve_rows(panel, {"GD-1": np.ones_like, "LSA-1": lambda t, f=f: level * f * np.ones(len(t))}, seeds=(seed,))
        for f, seed in zip(factors, SEEDS, strict=True)
    ]


@pytest.fixture
def tables(tmp_path):
    write_figure(tmp_path, "fig12", *rows("mse_1", LEVELS[0]))
    (tmp_path / "ext").mkdir()
    others = [part for number in (1, 2) for part in rows(f"mse_1_teacher_{number}", LEVELS[number])]
    write_figure(tmp_path, "ext/teachers", *others)
    return Tables(tmp_path)


def test_the_spread_over_teachers_is_apart_from_that_over_seeds(tables):
    found = teachers.by_teacher(shipped(CLAIM), tables, "paper")
    check_table(found, "teachers", "teachers")
    assert found["teacher"].tolist() == [0, 1, 2] and set(found["claim"]) == {CLAIM} and set(found["seeds"]) == {3}
    np.testing.assert_allclose(found["estimate"], LEVELS, rtol=0.01)
    np.testing.assert_allclose(found["deviation"], SPREAD, rtol=0.01)
    assert teachers.over_teachers(list(found.itertuples())) == pytest.approx(np.log(LEVELS).std(ddof=1), rel=0.01)
    title, _, table = teachers.section(shipped(CLAIM), list(found.itertuples()))
    assert title == "## Other teachers" and f"0: 0.100 (0.050), {HOLDS}; 1: 0.200 (0.050), {HOLDS}" in table
    assert table.endswith("| 0.69 |")


def test_one_teacher_alone_is_no_comparison(tables, tmp_path):
    (tmp_path / "ext/teachers.parquet").unlink()
    found = teachers.by_teacher(shipped(CLAIM), Tables(tmp_path), "paper")
    check_table(found, "teachers", "teachers")
    assert found.empty and teachers.section(shipped(CLAIM), []) == []


def test_every_claim_on_the_one_system_can_be_asked_of_the_others():
    of_first = [claim for claim in shipped().claims if "fig12" in claim.figures]
    assert len(of_first) >= 5
    for claim in of_first:
        other = teachers.claim_of(claim, 2)
        assert other is not None and "fig12" not in other.figures and "ext/teachers" in other.figures
        assert teachers.claim_of(claim, 0) is claim
