"""The page in Chromium: every figure is drawn without a word on the console, and switches change what is drawn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agreement_tables import SEEDS, one_layer, write_figure
from browser import answer
from test_trainings import RUN, write_training

from mesaopt.browse.page import browse_stage
from mesaopt.spec.yaml_files import read_yaml
from mesaopt.store.tables import read_table

ROOT = Path(__file__).parents[2]
#: functions for scripts inside the page
HELP = """
const plot = name => document.querySelector(`[data-panel="${name}"]`);
const click = where => document.querySelector(where).click();
const goTo = async where => { location.hash = where; await pause(300); };
const values = y => Array.from(y.bdata ? numbers(y) : y);
const traces = (name, series) => plot(name).data.filter(trace => trace.meta && trace.meta.series === series);
const isMean = trace => trace.meta.mean && !trace.meta.control;
const mean = (name, series) => traces(name, series).filter(isMean).map(trace => values(trace.y))[0];
const seedsOf = (name, series) => traces(name, series).filter(trace => trace.meta.seed).map(trace => trace.meta.seed);
"""


def asked(page: Path, script: str, anchor: str = "", height: int = 1600) -> Any:
    """What a script returns; nothing may stand on the console."""
    found, console = answer(page, HELP + script, anchor, height)
    assert not console and "error" not in (found or {}), (found, console)
    return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recorded") / "browse.html"
    browse_stage(ROOT, ROOT / "results/recorded", "recorded", out)
    return out


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of one figure with published points, and of three trainings."""
    folder = tmp_path_factory.mktemp("small")
    write_figure(folder / "tables", "fig2", *one_layer())
    for run, seed in ((RUN, 1), (RUN, 11)):
        write_training(folder / "runs", run, seed)
    (folder / "published").mkdir()
    rows = [f"{model},1,{t},{2 / t}" for model in ("LSA-1", '"GD-1 (Proposition-1, eta=0.032)"') for t in range(1, 51)]
    (folder / "published/fig4_C_singlelayer_mse_by_position.csv").write_text("\n".join(["model,seed,t,value", *rows]) + "\n")
    browse_stage(ROOT, folder, "paper", folder / "browse.html", folder / "published")
    return folder / "browse.html"


def test_every_figure_is_drawn_without_a_word_on_the_console(recorded: Path) -> None:
    script = """
    const found = {};
    for (const figure of page.figures) {
      await goTo(figure.name);
      document.querySelector("details.rest")?.setAttribute("open", "");
      await pause(300);
      found[figure.name] = [...document.querySelectorAll(".plot")].map(one => one.data ? one.data.length : 0);
    }
    await goTo("claims"); found.claims = document.querySelectorAll("tr[data-claim]").length;
    await goTo("runs"); found.runs = document.querySelectorAll("tr[data-run]").length;
    return found;"""
    found = asked(recorded, script, height=9000)
    assert found.pop("claims") == len(read_yaml(ROOT / "config/claims.yaml")["claims"]) and found.pop("runs") > 25
    assert len(found) == len(list((ROOT / "results/recorded/tables").rglob("*.parquet"))) and all(found.values())
    assert all(all(counts) for counts in found.values()), found


def test_a_seed_switched_off_changes_the_curve(recorded: Path) -> None:
    script = """
    const before = [mean("mse_depth", "LSA-1"), seedsOf("mse_depth", "LSA-1")];
    click('[data-seed="11"]');
    const after = [mean("mse_depth", "LSA-1"), seedsOf("mse_depth", "LSA-1")];
    click('[data-seed="11"]');
    return [before, after, [mean("mse_depth", "LSA-1"), seedsOf("mse_depth", "LSA-1")]];"""
    before, after, again = asked(recorded, script, "#fig3")
    rows = read_table(ROOT / "results/recorded/tables/fig3.parquet", "figure").query("panel == 'mse_depth' and series == 'LSA-1'")
    # values are in single precision on the page
    np.testing.assert_allclose(before[0], rows.groupby("x")["y"].mean(), rtol=1e-6)
    np.testing.assert_allclose(after[0], rows.query("seed != 11").groupby("x")["y"].mean(), rtol=1e-6)
    assert np.abs(np.array(after[0]) / before[0] - 1).max() > 1e-3
    assert sorted(before[1]) == sorted(rows["seed"].unique()) and sorted(after[1]) == sorted({*before[1]} - {11})
    assert again == before


def test_bands_are_those_of_the_drawn_figure(recorded: Path) -> None:
    script = """return traces("mse_depth", "LSA-1").filter(trace => trace.fill).map(trace => values(trace.y))[0];"""
    band = np.array(asked(recorded, script, "#fig3"))
    rows = read_table(ROOT / "results/recorded/tables/fig3.parquet", "figure").query("panel == 'mse_depth' and series == 'LSA-1'")
    middle, deviation = rows.groupby("x")["y"].mean().to_numpy(), rows.groupby("x")["y"].std().to_numpy()
    np.testing.assert_allclose(band, np.concatenate([middle + deviation, (middle - deviation)[::-1]]), rtol=1e-5)


def test_views_and_controls_can_be_switched(recorded: Path) -> None:
    script = """
    const count = () => traces("target_probe", "layer 3").length, found = {all: count()};
    for (const view of ["seeds", "band"]) { click(`[data-show="${view}"] input`); found[view] = count(); }
    click('#panel-target_probe [data-control="target_probe_untrained"] input');
    found.control = traces("target_probe", "layer 3").filter(trace => trace.meta.control).map(trace => values(trace.y))[0];
    found.range = plot("target_probe").layout.yaxis.range;
    click('[data-show="log"] input');
    found.linear = [plot("mse_depth").layout.yaxis.type, plot("target_probe").layout.yaxis.type];
    return found;"""
    found = asked(recorded, script, "#fig3")
    assert (found["all"], found["seeds"], found["band"]) == (12, 2, 1), "ten seeds, a band and a mean; then two; then the mean"
    rows = read_table(ROOT / "results/recorded/tables/fig3.parquet", "figure").query("series == 'layer 3'")
    untrained = rows.query("panel == 'target_probe_untrained'").groupby("x")["y"].mean()
    np.testing.assert_allclose(found["control"], untrained, rtol=1e-6)
    assert 10 ** found["range"][1] > untrained.max(), "the axis reaches as far as the control does"
    assert found["linear"] == ["log", "log"]


def test_nothing_offers_to_send_data_anywhere(recorded: Path) -> None:
    script = """return [...document.querySelectorAll(".modebar-btn")].map(button => button.getAttribute("data-title"));"""
    titles = asked(recorded, script, "#fig1")
    assert len(titles) == 6 and not any("loud" in title or "hare" in title for title in titles), titles


def test_published_points_over_our_curves(small: Path) -> None:
    script = """
    const published = () => plot("mse_1").data.filter(trace => trace.meta.published);
    const points = () => published().map(trace => [trace.meta.published, values(trace.y)[1]]);
    const before = points();
    click('[data-show="published"] input');
    return [before, points()];"""
    assert asked(small, script) == [[["LSA-1", 1], ["GD-1", 1]], []]


def test_claims_stand_below_their_figure(small: Path) -> None:
    script = """
    const rows = [...document.querySelectorAll("tr[data-claim]")];
    const cells = row => [...row.querySelectorAll("td")].map(cell => cell.textContent);
    return rows.map(row => [row.dataset.claim, cells(row)[5], cells(row)[4]]);"""
    found = {name: (verdict, seeds) for name, verdict, seeds in asked(small, script)}
    assert found["one-layer-is-gd"] == ("holds", str(len(SEEDS)))
    assert found.keys() >= {"one-layer-is-gd"} and not any(name.startswith("depth-") for name in found)


def test_runs_are_filtered_by_words_and_settings(small: Path) -> None:
    queries = [
        "",
        "lsa linear",
        "softmax",
        "lr=0.5",
        f"lr={RUN.training.lr} depth>0",
        "depth>40",
        "name=linear/lsa",
        f"batch={RUN.training.batch}",
    ]
    script = f"""
    const found = [];
    for (const words of {json.dumps(queries)}) {{
      const search = document.querySelector('input[type="search"]');
      search.value = words;
      search.dispatchEvent(new Event("input"));
      found.push([document.querySelectorAll("tr[data-run]").length, plot("trainings").data.length]);
    }}
    return found;"""
    # two seeds, a band and a mean
    one, none = [1, 4], [0, 0]
    assert asked(small, script, "#runs") == [one, one, none, none, one, none, none, one]


def test_a_link_from_a_figure_to_its_runs(small: Path) -> None:
    script = """click('main a[href="#runs/linear/lsa-d1"]'); await pause(300);
    return [document.querySelector('input[type="search"]').value, document.querySelectorAll("tr[data-run]").length];"""
    assert asked(small, script) == ["linear/lsa-d1", 0]


def test_a_page_without_histories_says_so(tmp_path: Path) -> None:
    write_figure(tmp_path / "tables", "fig2", *one_layer())
    browse_stage(ROOT, tmp_path, "laptop", tmp_path / "browse.html")
    text = asked(tmp_path / "browse.html", """return document.querySelector("main").textContent;""", "#runs")
    assert "No training's history is here" in text
