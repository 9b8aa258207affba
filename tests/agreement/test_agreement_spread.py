"""Spread over training seeds and over test batches, from simulated values in which both are known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from agreement_tables import T, one_layer, write_figure
from figure_inputs import SEEDS, write_results

from mesaopt.__main__ import main
from mesaopt.agreement import bands
from mesaopt.agreement.selections import Tables
from mesaopt.agreement.spread import MEANS, SEQUENCES, of_curve, spread
from mesaopt.errors import InputError
from mesaopt.figures.collect import collect
from mesaopt.store.tables import read_table, write_table

CURVE = 1.7 / (1 + 0.1 * T)


def standard(size: tuple[int, ...], axis: int, rng: np.random.Generator) -> np.ndarray:
    """Random numbers whose mean along an axis is 0, and their standard deviation there 1."""
    drawn = rng.normal(size=size)
    drawn -= drawn.mean(axis=axis, keepdims=True)
    return drawn / drawn.std(axis=axis, ddof=1, keepdims=True)


def cells(values: np.ndarray, x: np.ndarray) -> pd.DataFrame:
    """Rows of a table panel: `values` (x, seed, batch)."""
    rows = [(at, seed, batch + 1.0, v) for at, of in zip(x, values, strict=True) for (seed, batch), v in np.ndenumerate(of)]
    return pd.DataFrame(rows, columns=["x", "seed", "y", "value"]).assign(x=lambda frame: frame["x"].astype(float))


def drawn(values: np.ndarray, x: np.ndarray) -> pd.DataFrame:
    """Rows of a drawn curve: `values` (x, seed)."""
    rows = [(float(at), seed, v) for at, of in zip(x, values, strict=True) for seed, v in enumerate(of)]
    return pd.DataFrame(rows, columns=["x", "seed", "y"])


def crossed(seeds: float, batches: float, both: float = 0.0, count: int = 5) -> pd.DataFrame:
    """Values with a planted spread over seeds, over batches, and of single cells, as parts of the curve."""
    rng = np.random.default_rng(0)
    of_seeds, of_batches = standard((len(T), count, 1), 1, rng), standard((len(T), 1, count), 2, rng)
    noise = both * rng.normal(size=(len(T), count, count))
    return cells(CURVE[:, None, None] * (1 + seeds * of_seeds + batches * of_batches + noise), T)


@pytest.mark.parametrize(("seeds", "batches"), [(0.02, 0.05), (0.3, 0.01), (0.0, 0.04)])
def test_planted_spreads_are_recovered(seeds: float, batches: float) -> None:
    found = of_curve(crossed(seeds, batches), drawn(CURVE[:, None] * np.ones(5), T))
    assert found["over_seeds"] == pytest.approx(seeds, abs=1e-12) and found["over_batches"] == pytest.approx(batches)
    assert found["ratio"] == pytest.approx(seeds / batches, abs=1e-9) and found["drawn"] == pytest.approx(0, abs=1e-12)
    assert (found["seeds"], found["batches"], found["points"]) == (5, 5, 50)


def test_what_one_model_does_on_one_batch_is_in_both() -> None:
    found = of_curve(crossed(0.03, 0.04, both=0.04, count=40), drawn(CURVE[:, None] * np.ones(5), T))
    assert found["over_seeds"] == pytest.approx(0.05, rel=0.02)
    assert found["over_batches"] == pytest.approx(np.hypot(0.04, 0.04), rel=0.02)


def test_random_seeds_and_batches_are_recovered_on_average() -> None:
    """Five of each, drawn anew at every x; the standard deviation of five is on average 0.94 of the true one."""
    rng, x = np.random.default_rng(1), np.arange(1, 2001)
    values = 1 + 0.02 * rng.normal(size=(len(x), 5, 1)) + 0.05 * rng.normal(size=(len(x), 1, 5))
    own = 1 + 0.06 * rng.normal(size=(len(x), 5))
    found = of_curve(cells(values, x), drawn(own, x))
    shrunk = 0.94
    assert found["over_seeds"] == pytest.approx(0.02 * shrunk, rel=0.05)
    assert found["over_batches"] == pytest.approx(0.05 * shrunk, rel=0.05)
    assert found["drawn"] == pytest.approx(0.06 * shrunk, rel=0.05)
    assert found["drawn_ratio"] == pytest.approx(0.06 / 0.05, rel=0.05)


def test_one_seed_batch_by_batch_shows_the_spread_over_batches_alone() -> None:
    one = crossed(0.0, 0.05).query("seed == 0")
    found = of_curve(one, drawn(CURVE[:, None] * (1 + 0.1 * standard((5,), 0, np.random.default_rng(2))), T))
    assert found["over_batches"] == pytest.approx(0.05) and found["drawn"] == pytest.approx(0.1)
    assert np.isnan(found["over_seeds"]) and np.isnan(found["ratio"]) and found["drawn_ratio"] == pytest.approx(2)
    assert found["seeds"] == 5, "those of the drawn curve"
    alone = of_curve(one, drawn(CURVE[:, None], T))
    assert np.isnan(alone["drawn"]) and alone["seeds"] == 1


def test_values_that_are_rounding_do_not_count() -> None:
    values = crossed(0.02, 0.05)
    values.loc[values["x"] == 1, "value"] = 1e-20 * np.arange(1, 26)
    found = of_curve(values, drawn(CURVE[:, None] * np.ones(5), T))
    assert found["points"] == 49 and found["over_seeds"] == pytest.approx(0.02)


def test_only_positions_of_both_count_as_drawn() -> None:
    rows = drawn(CURVE[:, None] * (1 + 0.1 * standard((5,), 0, np.random.default_rng(2))), T)
    rows.loc[rows["x"] > 25, "y"] *= rows["seed"] + 1
    assert of_curve(crossed(0.02, 0.05).query("x <= 25"), rows)["drawn"] == pytest.approx(0.1)


def test_every_curve_of_a_collected_figure_that_is_there_batch_by_batch(tmp_path: Path) -> None:
    results = write_results(tmp_path, only="fig3")
    collect("fig3", results, SEEDS, tmp_path / "fig3.parquet", tmp_path / "fig3.json")
    found = spread(Tables(tmp_path), ["fig2", "fig3"]).set_index("panel")
    assert set(found["figure"]) == {"fig3"}, "there is no table of figure 2"
    assert set(found.index) == {"training_loss_6", "mse_depth", "target_probe", "preconditioning_probe"}
    assert found.loc["mse_depth", "series"].tolist() == ["LSA-1", "LSA-2", "LSA-4", "LSA-6", "Proposition 2", "Mesa-1"]
    assert (found.loc["mse_depth", "over_seeds"] > 0).all() and found.drop("mse_depth")["over_seeds"].isna().all()
    assert set(found.loc["training_loss_6", "drawn_on"]) == {MEANS} and set(found.loc["target_probe", "drawn_on"]) == {SEQUENCES}
    exact = found.loc["preconditioning_probe"].set_index("series")["points"]
    assert (exact == 11).all(), "with one observed token the target is decoded exactly"
    assert (found["drawn"] >= 0).all() and (found["seeds"] == 2).all()


def test_figures_without_such_curves_make_an_empty_table(tmp_path: Path) -> None:
    write_figure(tmp_path, "fig2", *one_layer())
    for figures in ([], ["fig2"], ["fig3"]):
        assert main(["spread", "--tables", str(tmp_path), "--figures", *figures, "--out", str(tmp_path / "spread.parquet")]) == 0
        assert read_table(tmp_path / "spread.parquet", "spread").empty
    assert bands.section(read_table(tmp_path / "spread.parquet", "spread")) == []
    with pytest.raises(InputError, match="unknown figure 'fig222'"):
        spread(Tables(tmp_path), ["fig222"])


def row(panel: str, series: str, **values: float) -> dict:
    known = {"figure": "fig3", "seeds": 5, "batches": 5, "points": 50, "over_batches": 0.04, "drawn_on": SEQUENCES}
    unknown = dict.fromkeys(("over_seeds", "drawn", "ratio", "drawn_ratio"), np.nan)
    return known | unknown | {"panel": panel, "series": series} | values


def test_the_page_says_how_many_times_as_wide(tmp_path: Path) -> None:
    rows = [
        row("mse_depth", "LSA-1", over_seeds=0.01, ratio=0.25, drawn=0.05, drawn_ratio=1.25),
        row("mse_depth", "LSA-2", over_seeds=0.08, ratio=2.0, drawn=0.10, drawn_ratio=2.5),
        row("mse_depth", "Proposition 2", over_seeds=1e-9, ratio=2.5e-8, drawn=0.05, drawn_ratio=1.25),
        row("target_probe", "layer 6", drawn=0.06, drawn_ratio=1.5),
        row("training_loss_6", "LSA-6", drawn=0.013, drawn_ratio=0.33, drawn_on=MEANS, batches=10),
    ]
    write_table(pd.DataFrame(rows), "spread", tmp_path / "spread.parquet")
    text = "\n\n".join(bands.section(read_table(tmp_path / "spread.parquet", "spread")))
    assert "over seeds are 1.1 times (median of 2 curves, 0.25 to 2.0) as wide." in text
    assert "of its own, they are 1.5 times (median of 3 curves, 1.2 to 2.5) as wide." in text
    assert "own test batches: 0.33 times as wide as single ones." in text
    assert "Learned once, so the same for all seeds: Proposition 2." in text
    assert "| fig3 | mse_depth | LSA-1 | 5 | 4.0% | 1.0% (0.25) | 5.0% (1.2) |" in text
    assert "| fig3 | mse_depth | Proposition 2 | 5 | 4.0% | 0% | 5.0% (1.2) |" in text
    assert "| fig3 | target_probe | layer 6 | 5 | 4.0% |  | 6.0% (1.5) |" in text


def test_one_seed_is_said_to_show_nothing() -> None:
    text = "\n\n".join(bands.section(pd.DataFrame([row("mse_1", "LSA-1", seeds=1)])))
    assert "One training seed shows no spread over seeds." in text and "| fig3 | mse_1 | LSA-1 | 1 | 4.0% |  |  |" in text
