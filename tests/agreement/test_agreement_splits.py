"""Every claim on probes is judged on the other sequences as well, and the page says where that makes a difference."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from agreement_tables import curve_rows, shipped, write_figure

from mesaopt.agreement import splits
from mesaopt.agreement.claims import Selection
from mesaopt.agreement.intervals import FAILS, HOLDS, NOT_RUN
from mesaopt.agreement.judge import judge
from mesaopt.agreement.selections import Tables
from mesaopt.agreement.words import interval

FALLS = "target-probe-falls-with-context"


def probe_claims() -> list[str]:
    kinds = ("probe", "tokens", "features")
    return [claim.name for claim in shipped().claims if any(kind in claim.of.panel for kind in kinds)]


def test_the_twin_of_a_twin_is_the_claim() -> None:
    claims = {claim.name: claim for claim in shipped().claims}
    assert len(probe_claims()) >= 40
    for name in probe_claims():
        twin = splits.other_split(claims[name])
        assert twin is not None, name
        assert twin.of != claims[name].of and splits.other_split(twin) == claims[name]
        assert {splits.scored(twin), splits.scored(claims[name])} == {splits.IN_SAMPLE, splits.HELD_OUT}


@pytest.mark.parametrize(
    ("panel", "twin"),
    [
        ("target_probe", "target_probe_held_out"),
        ("target_probe_held_out_untrained", "target_probe_untrained"),
        ("preconditioning_probe_shuffled", "preconditioning_probe_held_out_shuffled"),
        ("preconditioning_probe_textbook", "preconditioning_probe_textbook_held_out"),
        ("preconditioning_probe_textbook_held_out", "preconditioning_probe_textbook"),
        ("mse_depth", None),
        ("target_probe_test_batches", None),
    ],
)
def test_the_panel_that_is_scored_otherwise(panel: str, twin: str | None) -> None:
    [claim] = shipped("one-layer-is-gd").claims
    other = splits.other_split(dataclasses.replace(claim, of=Selection("fig3", panel, ("layer 6",)), against=None))
    assert (other.of.panel if other else None) == twin


@pytest.mark.parametrize("differs", [True, False])
def test_a_difference_is_found_and_said(tmp_path: Path, differs: bool) -> None:
    """In sample the error falls tenfold with context; on other sequences, where it `differs`, it does not."""
    falling, flat = (lambda t: 10.0 ** -(t / 50)), np.ones_like
    rows = [
        curve_rows("target_probe", {"layer 6": falling}),
        curve_rows("target_probe_held_out", {"layer 6": flat if differs else falling}),
    ]
    judged = judge(shipped(FALLS), Tables(write_figure(tmp_path, "fig3", *rows)), "recorded")
    [row] = judged.itertuples()
    assert (row.scored, row.verdict, row.other_verdict) == (splits.IN_SAMPLE, HOLDS, FAILS if differs else HOLDS)
    text = "\n".join(splits.section([row]))
    assert ("Of 1 claims on probes 1 gets different verdicts" in text) is differs
    assert f"| **{HOLDS}: {interval(row.estimate, row.low, row.high)}** | **{FAILS}: 1.00 (" in text or not differs


def test_without_the_other_scores_there_is_nothing_to_say(tmp_path: Path) -> None:
    rows = curve_rows("target_probe", {"layer 6": np.ones_like})
    judged = judge(shipped(FALLS), Tables(write_figure(tmp_path, "fig3", rows)), "recorded")
    [row] = judged.itertuples()
    assert (row.verdict, row.other_verdict, splits.section([row])) == (FAILS, NOT_RUN, [])
