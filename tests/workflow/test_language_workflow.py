"""Figures of language models from nothing to pictures, as small as they run, and what is said where there is no text."""

from pathlib import Path

import pytest
from workflow_folder import copy_workflow, planned, snakemake

SMOKE = ("--config", "scale=smoke", "seeds=[1]")
FEW = "language={'text/*': {training: {tokens: 1024, test_every: 1}}}"
FIGURES = ("figures/fig26.pdf", "figures/fig27.pdf", "figures/fig28.pdf")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = copy_workflow(tmp_path_factory.mktemp("language") / "clone")
    snakemake(folder, "--cores", "2", *FIGURES, *SMOKE, FEW)
    return folder


@pytest.mark.long
def test_figures_of_language_models_come_from_nothing(built):
    for figure in FIGURES:
        assert (built / figure).read_bytes().startswith(b"%PDF")
    assert planned(built, *FIGURES, *SMOKE, FEW) == {}


@pytest.mark.long
def test_another_rate_trains_anew_and_cuts_no_text(built):
    jobs = planned(built, *FIGURES, *SMOKE, "language={'text/*': {training: {tokens: 1024, test_every: 1, lr: 0.5}}}")
    assert jobs["train_language"] == 17 and "tokens" not in jobs
    assert (
        planned(built, "figures/fig28.pdf", *SMOKE, "language={'text/two-mesa': {training: {tokens: 2048}}}")["train_language"]
        >= 1
    )


def test_a_plan_fetches_cuts_trains_and_measures(tmp_path):
    folder = copy_workflow(tmp_path / "clone")
    jobs = planned(folder, *FIGURES, "--config", "scale=laptop", "seeds=[1]")
    assert jobs["fetch_package"] == jobs["tokens"] == 1
    assert jobs["train_language"] == 12 and jobs["language_attention"] == 3


def test_without_a_text_the_paper_has_no_language_models(tmp_path):
    folder = copy_workflow(tmp_path / "clone")
    said = snakemake(folder, "-n", "figures/fig26.pdf", "--config", "scale=paper", succeed=False)
    assert "mesaopt: error: text/shift-softmax needs a text of your own: text={path: FOLDER}" in said
    jobs = planned(folder, "all", "--config", "scale=paper")
    assert "train_language" not in jobs and jobs["train"] > 100
    line = "fig26, fig27, fig28 left out: text/shift-softmax needs a text of your own: text={path: FOLDER} (config/README.md)"
    for target, said_once in (("all", 1), ("figures/agreement.pdf", 1), ("figures/fig1.pdf", 0)):
        assert snakemake(folder, "-n", target, "--config", "scale=paper").count(f"mesaopt: {line}\n") == said_once, target
    assert "left out" not in snakemake(folder, "-n", "all", "--config", "scale=laptop")
    own = planned(folder, "figures/fig26.pdf", "--config", "scale=paper", "seeds=[1]", "text={path: /data/pile}")
    assert own["train_language"] == 11
