"""Losses by position are on as many sequences as the stated precision takes: settings against what the recorded tables tell."""

import sys
from fnmatch import fnmatch

import numpy as np
import pandas as pd
import pytest
from agreement_tables import ROOT, curve_rows

from mesaopt.figures.registry import figure
from mesaopt.spec.plan import resolve
from mesaopt.spec.yaml_files import read_yaml
from mesaopt.stages.evaluate import statistics

sys.path.insert(0, str(ROOT / "benchmarks"))
import precision

FILES = {name: read_yaml(ROOT / f"config/{name}.yaml") for name in ("experiments", "scales", "config")}
PLAN = resolve(FILES["experiments"], FILES["scales"], FILES["config"], "paper")


def settings(name: str) -> int:
    return PLAN.analysis("evaluate", name).sequences


@pytest.mark.parametrize("name", precision.PRECISION)
def test_the_settings_reach_the_stated_precision(name: str) -> None:
    """By the recorded tables; heavy tails make that rough, so a quarter more is allowed."""
    runs = {
        source.series: source.run for panel in figure(name).panels if panel.name in precision.PANELS for source in panel.sources
    }
    found = dict(precision.deviations(pd.read_parquet(ROOT / f"results/recorded/tables/{name}.parquet")))
    assert set(found) == set(runs)
    for series, deviation in found.items():
        error = deviation / settings(runs[series]) ** 0.5
        assert error < 1.25 * precision.PRECISION[name], f"{runs[series]}: {error:.1%}"


def test_other_teachers_are_evaluated_like_the_first_and_small_scales_on_few() -> None:
    assert settings("teacher-1/lsa-d1") == settings("fixed_teacher/lsa-d1") > 0
    laptop = resolve(FILES["experiments"], FILES["scales"], FILES["config"], "laptop")
    assert {laptop.analysis("evaluate", name).sequences for name in laptop.runs if fnmatch(name, "*/lsa-*")} == {0}


@pytest.mark.parametrize("told", [True, False], ids=["from errors", "from test batches"])
def test_the_spread_of_single_sequences_is_found(told: bool) -> None:
    """Planted: sequences that differ by three times their mean."""
    rng, t = np.random.default_rng(1), np.arange(1, 51)
    means = 1.0 + 3.0 / 16 * rng.normal(size=(50, 200))
    cells = [("mse_1_test_batches", "GD-1", 1, x, batch, means[x - 1, batch]) for x in t for batch in range(200)]
    parts = [curve_rows("mse_1", {"GD-1": np.ones_like}, seeds=(1,))]
    parts.append(pd.DataFrame(cells, columns=["panel", "series", "seed", "x", "y", "value"]))
    if told:
        parts.append(curve_rows("mse_1_error", {"GD-1": lambda t: np.full(50, 3.0 / 30)}, seeds=(1,)))
        parts.append(curve_rows("mse_1_sequences", {"GD-1": lambda t: np.full(50, 900.0)}, seeds=(1,)))
    [(series, deviation)] = precision.deviations(pd.concat(parts))
    assert series == "GD-1" and deviation == pytest.approx(3.0, rel=0.05)
    assert precision.needed(3.0, 0.02) == 22_500


def test_the_standard_error_is_how_much_means_differ() -> None:
    """Of means over 400 of a law with a heavy tail, drawn a thousand times."""
    import torch

    drawn = torch.distributions.LogNormal(0.0, 1.0).sample((1000, 400, 1)).double()
    tables = [statistics(sample) for sample in drawn]
    spread = np.std([table["mse"][0] for table in tables])
    assert np.mean([table["error"][0] for table in tables]) == pytest.approx(spread, rel=0.1)
    assert np.mean([table["median"][0] for table in tables]) == pytest.approx(1.0, rel=0.02)
