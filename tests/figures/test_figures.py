"""Pictures from tables: what is drawn, how it may be styled, and that the same input gives the same file."""

import functools
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb, to_rgba

from mesaopt.errors import InputError
from mesaopt.figures import style
from mesaopt.figures.draw import compose, draw, small_print
from mesaopt.figures.options import Style
from mesaopt.figures.records import read_json
from mesaopt.figures.registry import figure
from mesaopt.spec.look import Look, looks_from
from mesaopt.store.tables import read_table, write_table

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tables(collected_figures):
    return collected_figures


def page(tables, name, rows=None, **options):
    """The figure as a matplotlib figure, and its axes by panel title."""
    if rows is None:
        return _page_of_file(tables, name, tuple(options.items()))
    chosen = Style.from_dict(options)
    with style.applied(chosen):
        made = compose(figure(name), rows, read_json(tables / f"{name}.json"), chosen)
    return made, {axes.get_title(): axes for axes in made.axes}


@functools.cache
def _page_of_file(tables, name, options):
    return page(tables, name, read_table(tables / f"{name}.parquet", "figure"), **dict(options))


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


@pytest.mark.parametrize(("name", "kind"), [("fig2", "png"), ("fig1", "svg"), ("fig13", "pdf")])
def test_every_format_is_written_the_same_twice(tables, tmp_path, name, kind):
    for copy in ("a", "b"):
        draw(name, tables / f"{name}.parquet", tables / f"{name}.json", {"dpi": 50}, tmp_path / f"{copy}.{kind}")
    content = (tmp_path / f"a.{kind}").read_bytes()
    assert content == (tmp_path / f"b.{kind}").read_bytes()
    assert content.startswith({"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}[kind])
    if kind == "pdf":  # fonts are embedded, as TrueType
        assert b"/FontFile2" in content and b"/Type3" not in content


def test_lines_are_means_and_bands_standard_deviations(tables):
    _, axes = page(tables, "fig2")
    panel = axes["Prediction, one layer"]
    rows = read_table(tables / "fig2.parquet", "figure").query("panel == 'mse_1' and series == 'LSA-1'")
    by_seed = rows.pivot(index="x", columns="seed", values="y")
    mean, deviation = by_seed.to_numpy().mean(axis=1), by_seed.to_numpy().std(axis=1, ddof=1)
    np.testing.assert_allclose(lines(panel)["LSA-1"].get_ydata(), mean)
    band = panel.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx((mean + deviation).max()) and band.min() == pytest.approx((mean - deviation).min())
    assert not page(tables, "fig2", band=False)[1]["Prediction, one layer"].collections


def test_one_seed_draws_no_band(tables):
    rows = read_table(tables / "fig2.parquet", "figure").query("seed == 1")
    panel = page(tables, "fig2", rows)[1]["Prediction, one layer"]
    assert set(lines(panel)) == {"LSA-1", "GD-1"} and not panel.collections


def test_series_of_the_panels(tables):
    _, axes = page(tables, "v2/fig4")
    assert list(lines(axes["Training, one layer"])) == ["LSA-1", "Interpolation-1", "Proposition 1", "Mesa-1"]
    assert list(lines(axes["Training, 6 layers"])) == ["LSA-6", "Interpolation-6", "CompressedAlg-6", "Mesa-1"]
    assert list(lines(axes["Prediction, by depth"])) == ["LSA-1", "LSA-2", "LSA-4", "LSA-6", "Proposition 2", "Mesa-1"]
    assert list(lines(axes["Target probe"])) == ["input", "1", "2", "3", "4", "5", "6"]
    assert axes["Target probe"].get_yscale() == axes["Preconditioning probe"].get_yscale() == "log"


@pytest.mark.parametrize(("last", "shown"), [(500, 500), (1200, 1200), (1300, 1300), (3500, 1300)])
def test_published_range_only_where_the_data_reach_it(tables, last, shown):
    rows = read_table(tables / "fig2.parquet", "figure")
    rows.loc[rows["panel"] == "training_loss_1", "x"] *= last / 500
    assert page(tables, "fig2", rows)[1]["Training, one layer"].get_xlim() == pytest.approx((0, shown))


def test_one_short_training_keeps_the_own_range(tables):
    rows = read_table(tables / "fig2.parquet", "figure")
    rows.loc[(rows["panel"] == "training_loss_1") & (rows["series"] != "Mesa-1"), "x"] *= 10
    assert page(tables, "fig2", rows)[1]["Training, one layer"].get_xlim() == (0, 5000)


def test_exact_decoding_at_the_first_position_does_not_stretch_the_axis(tables):
    low, high = page(tables, "fig3")[1]["Preconditioning probe"].get_ylim()
    assert 1e-3 < low < 0.1 and 1 < high < 100


def test_held_out_probes_are_drawn_when_asked_for(tables):
    in_sample, held_out = page(tables, "fig3"), page(tables, "fig3", probe_split="held_out")
    ratio = [
        axes[title].get_lines()[0].get_ydata()[2]
        for axes, title in ((held_out[1], "Target probe, held-out"), (in_sample[1], "Target probe"))
    ]
    assert ratio[0] / ratio[1] == pytest.approx(2, rel=0.2)  # the synthetic held-out errors are twice as large
    assert "on held-out sequences" in held_out[0].get_supxlabel() and "in sample" in in_sample[0].get_supxlabel()


def test_probes_of_either_form_are_drawn_when_asked_for(tables):
    published, textbook = page(tables, "fig3"), page(tables, "fig3", probe_form="textbook", probe_split="held_out")
    assert "Preconditioning probe" in published[1] and "Preconditioning probe, textbook form, held-out" in textbook[1]
    assert "preconditioned input as published" in published[0].get_supxlabel()
    for before in ({}, {"where": {"panels": {"preconditioning_probe": []}}}):
        assert "preconditioned input as in the text" in small_print(
            figure("fig3"), {"scale": "paper", "seeds": [1]} | before, Style()
        )
    assert "preconditioned input as in the text" in textbook[0].get_supxlabel()


def test_matrices_are_symmetric_about_zero_with_blocks_and_convention(tables):
    _, axes = page(tables, "fig2")
    panel = axes[r"$W_K^\top W_Q$, head 1"]
    image = panel.get_images()[0]
    low, high = image.get_clim()
    assert low == -high and high == pytest.approx(np.abs(image.get_array()).max())
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("column: query channel", "row: key channel")
    assert [tick.get_text() for tick in panel.get_xticklabels()] == [r"$\hat s_{t+1}$", "$s_t$", "$s_{t-1}$"]
    assert sorted(line.get_ydata()[0] for line in panel.get_lines()[::2]) == [2.5, 5.5]  # between blocks of three channels
    assert axes["$W_O W_V$, head 2"].get_xlabel() == "column: input channel"


def test_matrix_entries_stand_at_row_and_column(tables):
    _, axes = page(tables, "fig13")
    rows = read_table(tables / "fig13.parquet", "figure").query("panel == 'layer_1_head_1_OV'")
    image = np.asarray(axes["$W_O W_V$, head 1"].get_images()[0].get_array())
    assert image[7, 2] == rows[(rows["y"] == 7) & (rows["x"] == 2)]["value"].item()
    assert image[7, 2] != image[2, 7]


def test_block_means_are_written(tables):
    _, axes = page(tables, "fig13")
    panel = axes[r"$W_K^\top W_Q$, head 1"]
    image = np.asarray(panel.get_images()[0].get_array())
    texts = [float(text.get_text().replace("−", "-")) for text in panel.texts]
    assert len(texts) == 16 and texts[13] == pytest.approx(np.diagonal(image[9:12, 3:6]).mean(), abs=5e-4)


def test_fig9_shows_layers_1_2_4_with_all_heads(tables):
    titles = page(tables, "fig9")[1]
    wanted = {f"{p}, layer {i}, head {h}" for p in (r"$W_K^\top W_Q$", "$W_O W_V$") for i in (1, 2, 4) for h in (1, 2, 3, 4)}
    assert wanted <= set(titles) and len(wanted) == 24


@pytest.mark.parametrize("name", ["fig11", "fig12"])
def test_control_tasks_show_the_panels_of_figures_2_and_3(tables, name):
    made, axes = page(tables, name)
    assert list(lines(axes["Prediction, one layer"])) == ["LSA-1", "GD-1"]
    assert list(lines(axes["Prediction, by depth"])) == ["LSA-1", "LSA-2", "LSA-4", "LSA-6", "Proposition 2", "Mesa-1"]
    assert list(lines(axes["Preconditioning probe"])) == ["input", "1", "2", "3", "4", "5", "6"]
    assert {f"{p}, head {h}" for p in (r"$W_K^\top W_Q$", "$W_O W_V$") for h in (1, 2)} <= set(axes)
    assert "2 seeds" in made.get_supxlabel() and "weights: seed 1" in made.get_supxlabel()
    task = {"fig11": "contracting", "fig12": "fixed_teacher"}[name]
    assert all(source.run.split("/")[0] == task for panel in figure(name).panels for source in panel.sources)


@pytest.mark.parametrize("name", ["fig2", "fig3", "fig11"])
def test_controls_are_in_the_table_and_on_no_page(tables, name):
    """A table without them, as earlier versions recorded, gives the same page."""
    rows = read_table(tables / f"{name}.parquet", "figure")
    hidden = {panel.name for panel in figure(name).panels if panel.kind == "table"}
    assert hidden < set(rows["panel"]), "nothing to leave out"
    pictures = []
    for part in (rows, rows[~rows["panel"].isin(hidden)]):
        page(tables, name, part)[0].savefig(buffer := io.BytesIO(), format="png", dpi=50)
        pictures.append(buffer.getvalue())
    assert pictures[0] == pictures[1]


def test_small_print_says_scale_seeds_and_commit(tables):
    record = {"scale": "laptop", "seeds": [1, 11], "commits": ["0123456789ab"], "dirty": True}
    text = small_print(figure("fig2"), record, Style())
    assert text == (
        "scale laptop  ·  2 seeds  ·  lines: mean, bands: one standard deviation over seeds  ·  weights: seed 1"
        "  ·  commit 01234567, uncommitted changes"
    )
    assert (
        small_print(figure("fig9"), record | {"dirty": False}, Style()) == "scale laptop  ·  weights: seed 1  ·  commit 01234567"
    )
    assert small_print(figure("fig14"), record, Style()).startswith("scale laptop  ·  attention: seed 1  ·  commit 01234567")
    assert small_print(figure("fig20"), record | {"runs": {}, "commits": []}, Style()).endswith("  ·  nothing trained")
    for commits, words in (([], "commit unknown"), (["0123456789ab"], "commits 01234567, unknown")):
        assert small_print(figure("fig9"), record | {"commits": commits, "dirty": None}, Style()).endswith(f"  ·  {words}")
    assert page(tables, "fig2")[0].get_supxlabel().startswith("scale synthetic")
    assert page(tables, "fig2", small_print=False)[0].get_supxlabel() == ""


def test_small_print_says_which_lines_and_points_are_left_out():
    for name, sizes, words in (
        ("fig5", (4, 10, 20), "left out at 6, 40, 60"),
        ("ext/rates", (4, 10, 20, 60), "left out: $n_s$ = 6, $n_s$ = 40"),
        ("ext/rates", (4, 6, 10, 20, 40), "left out: $n_s$ = 60"),
        ("fig5", (4, 6, 10, 20, 40, 60), ""),
    ):
        wanted = figure(name)
        runs = {source.run for panel in wanted.panels for source in panel.sources}
        record = {"runs": dict.fromkeys(run for run in runs if any(f"-n{size}-" in run for size in sizes))}
        assert re.findall(r"left out[^·]*\b", small_print(wanted, record, Style())) == [words] * bool(words)


def test_descent_starts_at_the_input(tables):
    panel = page(tables, "fig1")[1]["Measured"]
    assert [tick.get_text() for tick in panel.get_xticklabels()][:2] == ["input", "1"]
    assert to_rgba(lines(panel)["LSA-6"].get_color()) == style.line(Look("LSA-6", "linear", 6))["color"]


def test_options_change_the_page(tables):
    assert page(tables, "fig3", width=3.5)[0].get_figwidth() == 3.5
    Style.from_dict({"width": 8, "dpi": 300, "font_size": 9, "line_width": 2.0, "grid": False})


def test_wrong_files_leave_nothing_behind(tables, tmp_path):
    table, provenance = tables / "fig2.parquet", tables / "fig2.json"
    rows = read_table(table, "figure")
    write_table(rows[rows["series"] != "GD-1"], "figure", tmp_path / "short.parquet")
    rows.loc[rows["panel"] == "layer_1_head_1_QK", "x"] = rows["x"] + 0.5 * (rows["y"] == 0)
    write_table(rows, "figure", tmp_path / "ragged.parquet")
    cases = [
        ("fig2", table, provenance, {}, "a.jpg", "a figure is one of pdf, png, svg, not jpg"),
        ("fig2", tmp_path / "none.parquet", provenance, {}, "a.png", "no such file"),
        ("fig2", table, tmp_path / "none.json", {}, "a.png", "cannot be read"),
        ("fig3", table, provenance, {}, "a.png", "panel training_loss_6: no LSA-6, Interpolation-6"),
        ("fig2", tmp_path / "short.parquet", provenance, {}, "a.png", "panel mse_1: no GD-1 in the table"),
        ("fig2", tmp_path / "ragged.parquet", provenance, {}, "a.png", "does not hold one square matrix"),
        ("fig2", table, provenance, {"colour": "red"}, "a.png", "unknown option 'colour'"),
        ("fig30", table, provenance, {}, "a.png", "unknown figure 'fig30'"),
    ]
    for name, one, other, options, out, message in cases:
        with pytest.raises(InputError, match=re.escape(message)):
            draw(name, one, other, options, tmp_path / "out" / out)
    assert not list((tmp_path / "out").rglob("*")) if (tmp_path / "out").exists() else True


def test_drawing_needs_no_torch_and_is_clean_under_warnings_as_errors(tables, tmp_path):
    code = (
        "import sys, json; from pathlib import Path; import mesaopt.figures.collect; from mesaopt.figures.draw import draw;"
        f"t, out = Path({str(tables)!r}), Path({str(tmp_path)!r});"
        "draw('fig1', t / 'fig1.parquet', t / 'fig1.json', {}, out / 'a.png');"
        "print(json.dumps([m for m in ('torch', 'jsonschema') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert json.loads(done.stdout) == [] and (tmp_path / "a.png").stat().st_size > 1000


MATPLOTLIBRC = """
axes.spines.left: False
savefig.bbox: tight
text.usetex: True
lines.linestyle: --
font.family: serif
axes.prop_cycle: cycler('color', ['r', 'g'])
"""


#: those that matplotlib reads
VARIABLES = {"MPLBACKEND": "module://none", "SOURCE_DATE_EPOCH": "86400", "LC_ALL": "C", "TZ": "Asia/Tokyo"}


def test_a_matplotlibrc_of_the_user_changes_nothing(tables, tmp_path):
    """Nor do its variables; matplotlib reads the file in the working folder when it is imported."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "matplotlibrc").write_text(MATPLOTLIBRC)
    code = (
        "import sys, matplotlib; from pathlib import Path; from mesaopt.figures.draw import draw;"
        f"t = Path({str(tables)!r}); draw('fig2', t / 'fig2.parquet', t / 'fig2.json', {{}}, Path(sys.argv[1]));"
        "print(matplotlib.rcParams['text.usetex'])"
    )
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    for folder, usetex in ((tmp_path, "False"), (tmp_path / "own", "True")):
        environment |= VARIABLES if usetex == "True" else {}
        command = [sys.executable, "-W", "error", "-c", code, str(folder / "a.pdf")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=folder)
        assert done.stdout.strip() == usetex, "the file of the user was not read, or did not outlive the figure"
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "own" / "a.pdf").read_bytes()


def test_lines_of_a_family_come_from_the_entry_alone(tables):
    """Runs of other families than the figure's own, said by the JSON of the figure, are drawn without any code."""
    record = read_json(tables / "fig3.json")
    looks = {
        "linear/lsa-d2": {"label": "Softmax-3", "family": "softmax", "depth": 3},
        "linear/lsa-d4": {"label": "Hybrid-mesa", "family": "hybrid", "depth": 2},
        "linear/lsa-d6": {"label": "Softmax-7", "family": "softmax", "depth": 7},
        "linear/mesa-d1": {"label": "Full-mesa", "family": "full-mesa", "depth": 2},
        "linear/lsa-d1": {"label": "Mine", "colour": "#123456", "line": "dashdot"},
    }
    rows = read_table(tables / "fig3.parquet", "figure")
    names = {"LSA-2": "Softmax-3", "LSA-4": "Hybrid-mesa", "LSA-6": "Softmax-7", "Mesa-1": "Full-mesa", "LSA-1": "Mine"}
    rows.loc[rows["panel"] == "mse_depth", "series"] = rows["series"].replace(names)
    rows.loc[(rows["panel"] == "training_loss_6") & (rows["series"] == "Mesa-1"), "series"] = "Full-mesa"
    found = looks_from(record["looks"] | looks, "test")
    with style.applied(Style()):
        made = compose(figure("fig3", found), rows, record, Style())
    axes = {one.get_title(): one for one in made.axes}
    drawn = {name: to_rgb(line.get_color()) for name, line in lines(axes["Prediction, by depth"]).items()}
    assert list(drawn) == ["Mine", "Softmax-3", "Hybrid-mesa", "Softmax-7", "Proposition 2", "Full-mesa"]
    assert drawn["Mine"] == to_rgb("#123456") and lines(axes["Prediction, by depth"])["Mine"].get_linestyle() == "-."
    assert drawn["Softmax-3"][2] == max(drawn["Softmax-3"]) and sum(drawn["Softmax-7"]) < sum(drawn["Softmax-3"])
    assert drawn["Hybrid-mesa"][0] == max(drawn["Hybrid-mesa"]) and drawn["Full-mesa"][1] == min(drawn["Full-mesa"])
    layers = [to_rgb(line.get_color()) for line in axes["Target probe"].get_lines()]
    assert all(colour[2] == max(colour) for colour in layers)  # blue, light to dark
    assert [sum(colour) for colour in layers] == sorted([sum(colour) for colour in layers], reverse=True)


def test_a_recorded_table_without_looks_is_drawn_with_those_of_the_project(tables, tmp_path):
    record = read_json(tables / "fig2.json")
    assert record.pop("looks") and record.pop("where")
    (tmp_path / "old.json").write_text(json.dumps(record))
    for name, provenance in (("new", tables / "fig2.json"), ("old", tmp_path / "old.json")):
        draw("fig2", tables / "fig2.parquet", provenance, {"dpi": 50}, tmp_path / f"{name}.png")
    assert (tmp_path / "old.png").read_bytes() == (tmp_path / "new.png").read_bytes()


def test_bands_end_at_the_floor_of_a_logarithmic_panel(tables):
    rows = read_table(tables / "fig3.parquet", "figure")
    wide = (rows["panel"] == "target_probe") & (rows["series"] == "layer 6") & (rows["seed"] == 1)
    rows.loc[wide, "y"] *= 100  # a standard deviation far above the mean
    panel = page(tables, "fig3", rows)[1]["Target probe"]
    lowest = min(path.vertices[:, 1].min() for band in panel.collections for path in band.get_paths())
    assert lowest == pytest.approx(panel.get_ylim()[0])


def test_a_log_panel_without_positive_values_is_refused(tables):
    rows = read_table(tables / "fig3.parquet", "figure")
    rows.loc[rows["panel"] == "target_probe", "y"] = 0.0
    with pytest.raises(InputError, match="no positive values"):
        page(tables, "fig3", pd.DataFrame(rows))


def test_small_print_of_several_environments_stays_on_the_page():
    """However much there is to say, at the default size."""
    versions = {name: ["1.0.0", "2.0.0"] for name in ("matplotlib", "numpy", "pyarrow", "python", "safetensors", "torch")}
    facts = {
        "scale": "paper",
        "seeds": [1, 11],
        "commits": ["a" * 40, "b" * 40],
        "environments": ["x", "y"],
        "versions": versions,
    }
    rows = pd.DataFrame({"panel": "in_context", "series": "LSA-6", "seed": [1, 11, 1, 11], "x": [0, 0, 1, 1], "y": 1.0})
    page = compose(figure("fig1"), rows.assign(value=np.nan), facts, Style())
    page.draw_without_rendering()
    text = next(text for text in page.texts if "environments" in text.get_text())
    box = text.get_window_extent()
    assert "\n" in text.get_text() and box.x0 >= 0 and box.x1 <= page.bbox.x1
