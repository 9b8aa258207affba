"""Kinds of panels by themselves: ticks of logarithmic axes, pictures of whole matrices, sweeps."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Page

from mesaopt.errors import InputError
from mesaopt.figures import panels, style
from mesaopt.figures.draw import DRAWERS
from mesaopt.figures.options import Style
from mesaopt.figures.panels import logarithmic
from mesaopt.figures.parts import Axes, Panel, Source
from mesaopt.figures.sweep import draw_facets
from mesaopt.spec.look import Look
from mesaopt.store.tables import write_table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("limits", [(0.01, 100), (0.3, 4), (1.1, 1.9)])
def test_ticks_of_logarithmic_axes_read_as_those_of_matplotlib(limits):
    texts = []
    for make in (logarithmic, lambda canvas: canvas.set_yscale("log")):
        canvas = Page().subplots()
        make(canvas)
        canvas.set_ylim(*limits)
        texts.append([tick.get_text() for which in ("major", "minor") for tick in canvas.get_yticklabels(which=which)])
    powers = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    plain = [re.sub(r"[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda power: f"^{{{power[0].translate(powers)}}}", text) for text in texts[0]]
    assert [text and rf"$\mathdefault{{{text.replace('×', chr(92) + 'times')}}}$" for text in plain] == texts[1]
    assert any(texts[0])


def matrix_rows(size, first):
    values = np.random.default_rng(0).random((size, size))
    cells = [(float(x + first), float(y + first), values[y, x]) for y in range(size) for x in range(size)]
    return pd.DataFrame(cells, columns=["x", "y", "value"]).assign(panel="p", series="Softmax-7", seed=1), values


def raw_panel(kind, labels=("column", "row")):
    source = Source("linear/softmax-d7", "weights").with_looks({"linear/softmax-d7": Look("Softmax-7", "softmax", 7)})
    return Panel("p", kind, "title", (source,), Axes(*labels))


def test_whole_products_and_attention_maps_of_raw_tokens():
    with style.applied(Style()):
        canvas = Page().subplots()
        rows, values = matrix_rows(5, 0)
        DRAWERS["matrix"](canvas, raw_panel("matrix"), rows, Style())
        np.testing.assert_array_equal(canvas.get_images()[0].get_array(), values)
        assert not canvas.get_lines()  # no slots, no lines between them
        canvas = Page().subplots()
        rows, values = matrix_rows(5, 1)
        DRAWERS["map"](canvas, raw_panel("map"), rows, Style())
        image = canvas.get_images()[0]
        np.testing.assert_array_equal(image.get_array(), values)
        assert image.get_clim() == (0, 1) and canvas.get_xlim() == (0.5, 5.5) and canvas.get_ylim() == (5.5, 0.5)
        red, _, blue, _ = image.get_cmap()(0.8)
        assert blue > 2 * red


def sweep_rows(panels=("p",)):
    cells = [
        (panel, series, seed, float(x), 1 / x + level + 0.01 * seed)
        for panel in panels
        for level, series in enumerate(("Softmax-7", "LSA"))
        for seed in (1, 2)
        for x in (1, 2, 4)
    ]
    return pd.DataFrame(cells, columns=["panel", "series", "seed", "x", "y"]).assign(value=np.nan)


def test_a_sweep_has_a_marker_and_a_tick_at_every_value_tried():
    with style.applied(Style()):
        canvas = Page().subplots()
        DRAWERS["sweep"](canvas, raw_panel("sweep", ("layers", "loss")), sweep_rows(), Style())
    drawn = {line.get_label(): line for line in canvas.get_lines()}
    assert list(drawn) == ["Softmax-7", "LSA"] and drawn["LSA"].get_marker() == "o"
    assert [tick.get_text() for tick in canvas.get_xticklabels()] == ["1", "2", "4"]
    np.testing.assert_allclose(drawn["LSA"].get_ydata(), [2.015, 1.515, 1.265])
    assert canvas.get_xlabel() == "layers" and len(canvas.collections) == 2


def test_labels_of_swept_values_do_not_touch():
    """Those of figure 20: 6 is too near to 4; where values are apart all of them are there."""
    assert panels._apart([4.0, 6.0, 10.0, 20.0, 40.0, 60.0]) == ["4", "", "10", "20", "40", "60"]
    assert panels._apart([1.0, 2.0, 4.0, 8.0]) == ["1", "2", "4", "8"] and panels._apart([0.5]) == ["0.5"]


def test_sweeps_are_facets_of_a_table_alone(tmp_path):
    write_table(sweep_rows(("linear", "partial", "nonlinear")), "figure", tmp_path / "sweep.parquet")
    for name in ("a", "b"):
        looks = {"Softmax-7": Look("Softmax-7", "softmax", 7)}
        draw_facets(tmp_path / "sweep.parquet", ("layers", "loss"), {"dpi": 50}, tmp_path / f"{name}.png", looks, "scale laptop")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    (tmp_path / "matplotlibrc").write_text("axes.spines.left: False\nsavefig.bbox: tight\ntext.usetex: True\n")
    code = (
        "from pathlib import Path; from mesaopt.figures.sweep import draw_facets; from mesaopt.spec.look import Look;"
        "options = {'dpi': 50}, Path('own.png'), {'Softmax-7': Look('Softmax-7', 'softmax', 7)}, 'scale laptop';"
        "draw_facets(Path('sweep.parquet'), ('layers', 'loss'), *options)"
    )
    variables = {"PYTHONPATH": str(ROOT / "src"), "HOME": str(tmp_path), "MPLBACKEND": "module://none"}
    subprocess.run([sys.executable, "-P", "-c", code], check=True, env=variables, cwd=tmp_path)
    assert (tmp_path / "own.png").read_bytes() == (tmp_path / "a.png").read_bytes(), "a matplotlibrc of the user changes nothing"
    with pytest.raises(InputError, match="a figure is one of pdf, png, svg, not gif"):
        draw_facets(tmp_path / "sweep.parquet", ("layers", "loss"), {}, tmp_path / "c.gif")
