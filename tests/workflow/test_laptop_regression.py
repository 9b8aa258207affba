"""Few-shot regression and linearisation at the laptop scale: the phenomena are there, for every seed."""

from pathlib import Path

import pandas as pd
import pytest
from workflow_folder import copy_workflow, snakemake

pytestmark = pytest.mark.long
SEEDS = (1, 11)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_workflow(tmp_path_factory.mktemp("laptop") / "clone")
    snakemake(folder, *(f"figures/fig{number}.pdf" for number in (5, 8, 18, 19)), timeout=3600)
    return folder / "results/laptop/runs"


def curve(results: Path, run: str, seed: int, predictor: str, tasks: str = "one") -> pd.Series:
    """Error of the label by where it is drawn."""
    table = pd.read_parquet(results / f"linear-long/{run}/seed-{seed}/few_shot.parquet")
    return table[(table["predictor"] == predictor) & (table["tasks"] == tasks)].set_index("pair")["mse"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("run", ["softmax-d7", "hybrid"])
def test_labels_are_learned_in_context_and_better_with_a_tuned_token(results: Path, run: str, seed: int) -> None:
    """At the last pairs that both prompts have; at few pairs a separator may do harm."""
    plain, separated = (curve(results, run, seed, name) for name in ("model", "model_eos"))
    last = separated.index[-5:]
    assert plain[last].mean() < 0.75 * plain[0]
    assert separated[last].mean() < plain[last].mean()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("run", ["softmax-d7", "hybrid"])
def test_the_error_rises_when_the_task_changes_and_falls_again(results: Path, run: str, seed: int) -> None:
    error = curve(results, run, seed, "model", "two")
    assert error[10] > 1.2 * error[9] and error.iloc[-5:].mean() < 0.8 * error[10]


def losses(results: Path, size: int, seed: int) -> pd.Series:
    """Loss with one linear layer by that of the model, by layer."""
    table = pd.read_parquet(results / f"unclipped-n{size}-noise0p01/softmax-d7/seed-{seed}/linearisation.parquet")
    return table[table["start"] == "softmax"].set_index("layer")["normalised"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [4, 6, 10])
def test_the_first_layer_does_not_give_way_to_a_linear_one(results: Path, size: int, seed: int) -> None:
    assert losses(results, size, seed)[1] > 1.5


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [4, 6, 10])
def test_late_layers_give_way_to_linear_ones(results: Path, size: int, seed: int) -> None:
    assert losses(results, size, seed).loc[4:7].max() < 1.3
