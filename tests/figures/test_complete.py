"""Figures of complete Transformers: what their kinds of panels draw, and which run stands behind which."""

import numpy as np
import pandas as pd
import pytest
from figure_inputs import POSITIONS, SEEDS, write_results
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Page

from mesaopt.figures import style
from mesaopt.figures.collect import gather
from mesaopt.figures.draw import DRAWERS, compose
from mesaopt.figures.options import Style
from mesaopt.figures.parts import Axes, Figure, Panel, Source
from mesaopt.figures.registry import figure, inputs, runs
from mesaopt.spec.look import Look
from mesaopt.store.tables import read_table, write_table


def drawn(folder, name: str):
    """The axes of a figure of synthetic results by panel, and its rows."""
    rows = gather(name, write_results(folder, only=name), SEEDS)
    wanted = figure(name)
    with style.applied(Style()):
        page = compose(wanted, rows, {"seeds": list(SEEDS), "scale": "synthetic"}, Style())
    places = {canvas.get_label(): canvas for canvas in page.axes}
    return {panel.name: places[panel.place] for panel in wanted.drawn("in_sample")}, rows


def test_sensitivities_are_shades_and_what_came_before_is_grey(tmp_path):
    axes, _ = drawn(tmp_path, "fig16")
    assert list(axes) == ["sensitivity_softmax", "sensitivity_hybrid", "sensitivity_full_mesa"]
    lines = {line.get_label(): line for line in axes["sensitivity_softmax"].get_lines()}
    assert list(lines) == [*(f"$t'$ = {t}" for t in range(45, 51)), "$t'$ < 45"]
    *shades, rest = (to_rgb(line.get_color()) for line in lines.values())
    brightness = [sum(shade) for shade in shades]
    assert brightness == sorted(brightness, reverse=True) and len(set(brightness)) == 6
    assert rest[0] == rest[1] == rest[2] and lines["$t'$ < 45"].get_linestyle() == "--"


def test_a_legend_of_many_shades_covers_no_curve(tmp_path):
    """Curves that fill their panel leave no free place for it."""
    results = write_results(tmp_path, only="fig16")
    rows = gather("fig16", results, SEEDS)
    rows["y"] = rows["x"] / rows["x"].max() * (1 + rows["series"].astype("category").cat.codes)
    with style.applied(Style()):
        page = compose(figure("fig16"), rows, {"seeds": list(SEEDS), "scale": "synthetic"}, Style())
    page.draw_without_rendering()
    for canvas in page.axes:
        covered = canvas.get_legend().get_window_extent()
        paths = [line.get_path().transformed(line.get_transform()) for line in canvas.get_lines()]
        assert len(paths) == 7 and not any(path.intersects_bbox(covered, filled=False) for path in paths)


def test_attention_maps_are_whole_squares_though_the_table_holds_the_past_alone(tmp_path):
    axes, rows = drawn(tmp_path, "fig14")
    image = axes["attention_1"].get_images()[0].get_array()
    assert image.shape == (POSITIONS, POSITIONS)
    assert (image[np.triu_indices(POSITIONS, 1)] == 0).all() and (image[np.tril_indices(POSITIONS)] > 0).all()
    assert (rows[rows["panel"] == "attention_1"]["x"] <= rows[rows["panel"] == "attention_1"]["y"]).all()


def test_attention_by_lag_is_in_the_table_for_every_seed(tmp_path):
    rows = gather("fig14", write_results(tmp_path, only="fig14"), SEEDS)
    lags = rows[rows["panel"] == "attention_by_lag_softmax-d7"]
    assert set(lags["seed"]) == set(SEEDS) and set(lags["series"]) == {"mean over heads", *(f"head {h}" for h in (1, 2, 3, 4))}


@pytest.mark.parametrize("name", ["fig8", "fig18"])
def test_without_a_prefix_few_shot_figures_lack_its_lines_alone(tmp_path, name):
    """`prefix: 0` tunes none: the tables behind the figure then have no rows of it."""
    results = write_results(tmp_path, only=name)
    for path in results.rglob("*.parquet"):
        if path.stem in ("few_shot", "early_ascent", "tuning"):
            rows, kind = read_table(path, path.stem), "token" if path.stem == "tuning" else "predictor"
            write_table(rows[~rows[kind].isin(["model_eos_prefix", "prefix"])], path.stem, path)
    with_prefix = gather(name, write_results(tmp_path / "with", only=name), SEEDS)
    rows = gather(name, results, SEEDS)
    pairs = [set(map(tuple, of[["panel", "series"]].drop_duplicates().to_numpy())) for of in (with_prefix, rows)]
    lacking = {(panel, series.rpartition(" + ")[2]) for panel, series in pairs[0] - pairs[1]}
    labels = ("labels", "labels_switch", "early_ascent_height", "early_ascent_width", "tuning")
    assert lacking == {(panel, "P") for panel in labels} and pairs[1] < pairs[0]
    with style.applied(Style()):
        page = compose(figure(name), rows, {"seeds": list(SEEDS), "scale": "synthetic"}, Style())
    [canvas] = [canvas for canvas in page.axes if canvas.get_label() == "labels"]
    names = [line.get_label() for line in canvas.get_lines()]
    assert any(of.endswith("+ EOS") for of in names) and not any(of.endswith("+ P") for of in names)


def test_elements_have_ticks_of_whole_numbers(tmp_path):
    axes, _ = drawn(tmp_path, "fig17")
    assert list(axes["tokens_softmax"].get_xticks()) == list(range(43, 51))
    assert "in_sample" not in axes["tokens_softmax"].get_ylabel() and "R^2" in axes["r2_softmax"].get_ylabel()


def matrices(largest: dict[str, float]) -> pd.DataFrame:
    cells = [(name, x, y, value * (-1) ** (x + y)) for name, value in largest.items() for x in range(3) for y in range(3)]
    return pd.DataFrame(cells, columns=["panel", "x", "y", "value"]).assign(series="S", seed=1)


@pytest.mark.parametrize(("one_scale", "ends"), [(True, [2.0, 2.0, 5.0, 5.0]), (False, [1.0, 2.0, 3.0, 5.0])])
def test_matrices_of_a_row_share_their_colours_where_the_figure_says_so(one_scale, ends):
    source = Source("linear/softmax-d7", "weights", series="S")
    panels = tuple(Panel(name, "matrix", name, (source,), Axes("x", "y"), seeds="first") for name in "abcd")
    wanted = Figure("title", panels, (("a", "b"), ("c", "d")), 1.0, one_scale=one_scale)
    with style.applied(Style()):
        page = compose(wanted, matrices({"a": 1.0, "b": 2.0, "c": 3.0, "d": 5.0}), {"seeds": [1]}, Style())
    images = [canvas.get_images()[0] for canvas in page.axes[:4]]
    assert [image.get_clim() for image in images] == [(-end, end) for end in ends]


def one_curve(kind, axes, lowest):
    """A panel of that kind with one curve, which falls from 2 to `lowest`."""
    source = Source("linear/softmax-d7", "loss", series="S").with_looks({"linear/softmax-d7": Look("S", "softmax", 7)})
    rows = pd.DataFrame({"series": "S", "seed": 1, "x": range(1, 31), "y": np.linspace(2, lowest, 30)})
    with style.applied(Style()):
        canvas = Page().subplots()
        DRAWERS[kind](canvas, Panel("p", kind, "title", (source,), axes), rows, Style())
    return canvas


@pytest.mark.parametrize(("lowest", "top"), [(0.01, 0.1), (0.2, None)])
def test_the_published_range_is_kept_where_every_curve_comes_below_its_end(lowest, top):
    canvas = one_curve("curves", Axes("t", "y", y_top=0.1), lowest)
    assert (canvas.get_ylim()[1] == top) if top else canvas.get_ylim()[1] > 1


@pytest.mark.parametrize(("lowest", "bottom"), [(1.2, 1.0), (0.9, 0.9)])
def test_an_axis_of_losses_by_another_begins_at_one_or_at_the_lowest_curve(lowest, bottom):
    assert one_curve("shades", Axes("t", "y", y_bottom=1.0), lowest).get_ylim()[0] == pytest.approx(bottom)


def test_which_training_stands_behind_which_panel():
    assert {*runs("fig6")} == {"linear/softmax-d7", "linear/softmax-d3"}
    assert {*runs("fig14")} == {"linear/softmax-d7"} and {*runs("fig15")} == {"linear/hybrid"}
    assert {"linear/softmax-d7-long", "linear/hybrid-tokens", "partial/softmax-d7", "nonlinear/hybrid"} <= {*runs("v2/fig2")}
    assert all("-sensitivity/" in path for name in ("fig16", "fig22", "fig23") for path in inputs(name, [1]))
    assert len(runs("fig21")) == 14
    assert "nonlinear/hybrid-published" in runs("fig7")
