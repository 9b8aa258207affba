"""`snakemake browse`: the page of what is there; nothing is made for it, and it is made again when that has changed."""

import json
from pathlib import Path

import pytest
from agreement_tables import one_layer, write_figure
from workflow_folder import copy_workflow, planned, snakemake

RECORDED, SMOKE = ("--config", "scale=recorded"), ("--config", "scale=smoke")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_workflow(tmp_path_factory.mktemp("browse") / "clone")
    write_figure(folder / "results/recorded/tables", "fig2", *one_layer())
    return folder


def data_of(page: Path) -> dict:
    return json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])


def test_the_recorded_tables_on_a_page(clone: Path) -> None:
    snakemake(clone, "browse", *RECORDED)
    found = data_of(clone / "results/recorded/browse.html")
    assert (found["scale"], [figure["name"] for figure in found["figures"]]) == ("recorded", ["fig2"])
    assert {"holds", "not run"} <= {claim["verdict"] for claim in found["claims"]}
    assert planned(clone, "browse", *RECORDED) == {}


def test_another_table_makes_it_anew_and_nothing_else(clone: Path) -> None:
    write_figure(clone / "results/smoke/tables", "fig2", *one_layer())
    snakemake(clone, "results/smoke/browse.html", *SMOKE)
    assert planned(clone, "browse", *SMOKE) == {}
    write_figure(clone / "results/smoke/tables", "fig2", *one_layer(gap=0.5))
    assert planned(clone, "browse", *SMOKE) == {"browse": 1, "browse_page": 1}, "the table's figure is not collected or trained"
    snakemake(clone, "browse", *SMOKE)
    assert not (clone / "results/smoke/runs").exists()


def test_published_points_come_from_the_folder_that_is_configured(clone: Path, tmp_path: Path) -> None:
    rows = [f"{model},1,{t},{2 / t}" for model in ("LSA-1", '"GD-1 (Proposition-1, eta=0.032)"') for t in range(1, 51)]
    (tmp_path / "fig4_C_singlelayer_mse_by_position.csv").write_text("\n".join(["model,seed,t,value", *rows]) + "\n")
    published = f"published_tables={tmp_path}"
    assert planned(clone, "results/recorded/browse.html", *RECORDED, published) == {"browse_page": 1}
    snakemake(clone, "results/recorded/browse.html", *RECORDED, published)
    panels = data_of(clone / "results/recorded/browse.html")["figures"][0]["panels"]
    assert [points["series"] for panel in panels for points in panel["published"]] == ["LSA-1", "GD-1"]
    assert not list(clone.rglob("*.csv")), "the published tables stay where they are"


def test_a_scale_without_tables_is_named(clone: Path) -> None:
    output = snakemake(clone, "-n", "browse", "--config", "scale=laptop", succeed=False)
    assert "mesaopt: error: results/laptop/tables has no table of a figure to browse yet; make a figure first" in output
    assert "Traceback" not in output
