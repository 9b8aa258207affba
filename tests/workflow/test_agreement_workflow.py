"""`snakemake agreement` in a folder with a few recorded tables, as a user would give it."""

from pathlib import Path

import pytest
from agreement_tables import ROOT, T, one_layer, weights_of_one_layer, write_figure
from workflow_folder import copy_workflow, planned, snakemake

from mesaopt.agreement.claims_file import read_claims
from mesaopt.store.tables import read_table

RECORDED = ("--config", "scale=recorded")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_workflow(tmp_path_factory.mktemp("agreement") / "clone")
    write_figure(folder / "results/recorded/tables", "fig2", *one_layer())
    write_figure(folder / "results/recorded/tables", "fig13", *weights_of_one_layer())
    (folder / "docs").mkdir()
    return folder


def test_claims_are_judged_without_published_tables(clone: Path) -> None:
    output = snakemake(clone, "agreement", *RECORDED)
    assert "our curves are not compared with published ones: published_tables is not set (config/README.md)" in output
    assert "claims - holds 9, fails 1, not run" in output
    judged = read_table(clone / "results/recorded/agreement.parquet", "agreement").set_index("claim")
    assert judged.loc["one-layer-is-gd", "verdict"] == "holds"
    assert judged.loc["depth-lowers-loss", "reason"] == "there is no table of fig3"
    assert (clone / "results/recorded/agreement.md").read_text().startswith("# Agreement with the paper")
    assert "<h1 id=" in (clone / "results/recorded/agreement.html").read_text()
    assert (clone / "figures/agreement.pdf").read_bytes().startswith(b"%PDF")
    assert not (clone / "results/recorded/curves.parquet").exists()
    assert planned(clone, "results/recorded/agreement.md", "figures/agreement.pdf", *RECORDED) == {}


def test_published_curves_are_compared_and_drawn(clone: Path, tmp_path: Path) -> None:
    models = ("LSA-1", '"GD-1 (Proposition-1, eta=0.032)"')
    rows = [f"{model},1,{t},{1.7 / (1 + 0.1 * t)}" for model in models for t in T]
    (tmp_path / "fig4_C_singlelayer_mse_by_position.csv").write_text("\n".join(["model,seed,t,value", *rows]))
    snakemake(clone, "agreement", "write_page", *RECORDED, f"published_tables={tmp_path}")
    curves = read_table(clone / "results/recorded/curves.parquet", "curves")
    assert curves["series"].tolist() == ["LSA-1", "GD-1"] and (curves["within"] == 1).all()
    assert (clone / "figures/agreement/fig2.pdf").read_bytes().startswith(b"%PDF")
    page = (clone / "docs/agreement.md").read_text()
    assert "| fig2 | mse_1 | LSA-1 | 5 | 50 | 100% |" in page and page == (clone / "results/recorded/agreement.md").read_text()


def test_a_folder_that_does_not_exist_is_named_and_the_rest_planned(clone: Path) -> None:
    output = snakemake(clone, "-n", "agreement", *RECORDED, "published_tables=/nowhere")
    assert "our curves are not compared with published ones: /nowhere is no folder" in output
    refused = snakemake(clone, "-n", "figures/agreement/fig2.pdf", *RECORDED, succeed=False)
    assert "figures/agreement/fig2.pdf needs published curves: set published_tables" in refused


def test_computed_scales_make_the_figures_that_claims_need(clone: Path) -> None:
    jobs = planned(clone, "agreement", "--config", "scale=paper")
    # and those of other teachers, of whom claims on figure 12 are asked, too; language models need a text of the user's own there
    needed = {*read_claims(clone).figures("paper"), "ext/teachers"} - {"fig26", "fig27", "fig28"}
    assert {"fig1", "fig2", "fig3", "fig11", "fig12", "fig6", "fig17"} <= needed
    assert jobs["collect"] == len(needed) and jobs["train"] > 20 and jobs["judge"] == 1
    without = ",".join(sorted(needed - {"fig2"}))
    left = planned(clone, "agreement", "--config", "scale=paper", f"agreement_without=[{without}]")
    assert left["collect"] == 1 and left["train"] < jobs["train"]


def test_mistakes_stop_with_one_line(clone: Path) -> None:
    output = snakemake(clone, "-n", "agreement", *RECORDED, "agreement_without=[fig222]", succeed=False)
    assert "config: agreement_without: unknown figure 'fig222': did you mean 'fig22'?" in output
    path = clone / "config/claims.yaml"
    text = path.read_text()
    path.write_text(text.replace("statistic: ratio", "statistic: ration", 1))
    output = snakemake(clone, "-n", "agreement", *RECORDED, succeed=False)
    path.write_text(text)
    assert "mesaopt: error: claims.yaml: one-layer-is-gd: unknown statistic 'ration': did you mean 'ratio'?" in output
    assert "Traceback" not in output


def test_captions_and_categories_of_the_report() -> None:
    rules = (ROOT / "workflow/rules/agreement.smk").read_text()
    assert rules.count('category="Agreement"') == 3
    for name in ("agreement", "overlay"):
        assert f'caption="../report/{name}.rst"' in rules and (ROOT / f"workflow/report/{name}.rst").read_text().startswith("**")
