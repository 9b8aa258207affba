"""Figures of the page: every value of the recorded tables is there, looks are those of drawn figures, controls have a place."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Page
from typed_arrays import read

from mesaopt.agreement.published import PublishedCurve
from mesaopt.browse.figures import figure_of, heading
from mesaopt.errors import InputError
from mesaopt.figures import style
from mesaopt.figures.draw import DRAWERS
from mesaopt.figures.options import Style
from mesaopt.figures.registry import FIGURES, figure
from mesaopt.store.tables import read_table

RECORDED = Path(__file__).parents[2] / "results/recorded"
NAMES = [name for name in FIGURES if (RECORDED / f"tables/{name}.parquet").exists()]


@cache
def table(name: str) -> pd.DataFrame:
    return read_table(RECORDED / f"tables/{name}.parquet", "figure")


@cache
def shown(name: str) -> dict[str, Any]:
    return figure_of(name, table(name), json.loads((RECORDED / f"records/{name}.json").read_text()))


def panel_of(name: str, panel: str) -> dict[str, Any]:
    return next(one for one in shown(name)["panels"] if one["name"] == panel)


def values_of(panel: dict[str, Any]) -> np.ndarray:
    if "matrices" in panel:
        return np.concatenate([read(one["z"]).ravel() for one in panel["matrices"]])
    return np.concatenate([read(line["y"]) for series in panel["series"] for line in series["lines"]])


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_the_table_is_on_the_page(name: str) -> None:
    for panel, rows in table(name).groupby("panel"):
        found = panel_of(name, str(panel))
        wanted = rows["value"].where(rows["value"].notna(), rows["y"]).to_numpy(dtype=np.float32)
        values = values_of(found)
        if found["kind"] == "map":  # with the zeros of positions that are still to come
            assert (values == 0).sum() >= len(values) - len(wanted)
            values = np.concatenate([values[values != 0], np.zeros((wanted == 0).sum(), np.float32)])
        np.testing.assert_array_equal(np.sort(values), np.sort(wanted))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_that_can_be_collected_can_be_shown(name: str, collected_figures: Path) -> None:
    """All of its panels with values, in words that JSON knows."""
    record = json.loads((collected_figures / f"{name}.json").read_text())
    found = figure_of(name, read_table(collected_figures / f"{name}.parquet", "figure"), record)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {panel["name"] for panel in found["panels"]} == {panel.name for panel in figure(name).panels if panel.sources}
    assert {panel["kind"] for panel in found["panels"] if panel["of"] == ""} <= {*DRAWERS}


def test_a_line_is_a_seeds_curve() -> None:
    rows = table("fig3").query("panel == 'mse_depth' and series == 'LSA-6' and seed == 11")
    panel = panel_of("fig3", "mse_depth")
    series = next(one for one in panel["series"] if one["name"] == "LSA-6")
    line = next(one for one in series["lines"] if one["seed"] == 11)
    np.testing.assert_array_equal(read(panel["xs"][line["x"]]), rows["x"])
    np.testing.assert_array_equal(read(line["y"]), rows["y"].astype(np.float32))


def test_values_in_cells_are_lines_of_their_own() -> None:
    panel = panel_of("fig3", "structure_lsa-d6_trained_QK")
    rows = table("fig3").query("panel == @panel['name'] and series == 'norm' and seed == 1 and y == 2")
    norm = next(one for one in panel["series"] if one["name"] == "norm")
    line = next(one for one in norm["lines"] if one["seed"] == 1 and one["part"] == "head 2")
    np.testing.assert_array_equal(read(line["y"]), rows["value"].astype(np.float32))
    assert panel["part"] == "head" and panel["of"] is None and panel["axes"]["x"] == "layer"


def test_a_matrix_keeps_its_rows_and_columns() -> None:
    panel = panel_of("fig13", "layer_1_head_1_QK")
    rows = table("fig13").query("panel == @panel['name']")
    matrix = read(panel["matrices"][0]["z"])
    cell = rows.iloc[len(rows) // 3]
    assert matrix[int(cell["y"]), int(cell["x"])] == np.float32(cell["value"])
    assert panel["limits"] == [-rows["value"].abs().max(), rows["value"].abs().max()]


@pytest.mark.parametrize(
    ("name", "panel"),
    [("fig2", "training_loss_1"), ("fig3", "target_probe"), ("fig16", "sensitivity_hybrid"), ("fig1", "in_context")],
)
def test_colours_labels_and_ranges_are_those_of_the_drawn_figure(name: str, panel: str) -> None:
    wanted = next(one for one in figure(name).panels if one.name == panel)
    rows, found = table(name).query("panel == @panel"), panel_of(name, panel)
    with style.applied(Style()):
        canvas = Page().subplots()
        DRAWERS[wanted.kind](canvas, wanted, rows, Style())
    drawn = [line for line in canvas.lines if not str(line.get_label()).startswith("_")]
    assert [series["colour"] for series in found["series"]] == [to_hex(line.get_color()) for line in drawn]
    assert [series["dash"] == "solid" for series in found["series"]] == [line.get_linestyle() == "-" for line in drawn]
    np.testing.assert_allclose(found["axes"]["x_range"], canvas.get_xlim())
    assert found["axes"]["log"] == (canvas.get_yscale() == "log")
    if found["axes"]["log"]:
        np.testing.assert_allclose(found["axes"]["y_range"], canvas.get_ylim())


def test_controls_stand_with_the_panel_that_they_belong_to() -> None:
    of = {panel["name"]: (panel["of"], panel["what"]) for panel in shown("fig3")["panels"]}
    assert of["target_probe"] == ("", "")
    assert of["target_probe_held_out"] == ("target_probe", "held out")
    assert of["preconditioning_probe_held_out_shuffled"] == ("preconditioning_probe", "held out shuffled")
    assert of["mse_depth_test_batches"] == ("mse_depth", "test batches")
    assert of["structure_lsa-d6_trained_OV"] == (None, "")
    assert set(of) == set(table("fig3")["panel"])


def test_published_points_are_those_of_the_panel_or_of_one_with_the_same_values() -> None:
    values = pd.Series([1.5, 1.0], index=[1.0, 2.0])
    curve = PublishedCurve("fig3", "mse_depth", "LSA-6", "a.csv", values, (2.0, 50.0))
    flat = PublishedCurve("fig3", "training_loss_6", "CompressedAlg-6", "b.csv", pd.Series([0.25], index=[np.nan]), None)
    for name in ("fig3", "v2/fig4"):
        found = {panel["name"]: panel["published"] for panel in figure_of(name, table(name), {}, [curve, flat])["panels"]}
        (points,) = found["mse_depth"]
        assert (points["series"], read(points["x"]).tolist(), read(points["y"]).tolist()) == ("LSA-6", [2.0], [1.0])
        (line,) = found["training_loss_6"]
        assert line["flat"] and read(line["y"]).tolist() == [0.25]
        assert not any(found[panel] for panel in found if panel not in ("mse_depth", "training_loss_6"))


def test_a_torn_matrix_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"panel \w+: the table does not hold one square matrix"):
        figure_of("fig13", table("fig13").query("panel != 'layer_1_head_1_QK' or x > 0 or y > 0"), {})


def test_names_as_people_say_them() -> None:
    assert [heading(name) for name in ("fig3", "v2/fig4", "ext/layers")] == ["Figure 3", "Figure 4, version 2", "Layers"]
