"""The main job, `make figures`: at the laptop scale the paper's phenomena are there, for every seed."""

from pathlib import Path

import pandas as pd
import pytest
from workflow_folder import copy_workflow, snakemake

SEEDS = (1, 11)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_workflow(tmp_path_factory.mktemp("laptop") / "clone")
    snakemake(folder, "figures/fig2.pdf", "figures/fig3.pdf", timeout=3000)
    return folder / "results/laptop"


def loss(results: Path, name: str, seed: int) -> pd.Series:
    """Next-token loss by position of a run, or of a hand-written algorithm."""
    inside = f"theory/{name}/loss/seed-{seed}.parquet" if "gd1" in name else f"runs/{name}/seed-{seed}/loss.parquet"
    return pd.read_parquet(results / inside).query("batch == 0").set_index("t")["mse"]


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
def test_the_mesa_layer_is_far_better_than_one_linear_layer(results: Path, seed: int) -> None:
    assert loss(results, "linear/mesa-d1", seed)[49] < 0.5 * loss(results, "linear/lsa-d1", seed)[49]


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
def test_loss_falls_with_depth(results: Path, seed: int) -> None:
    by_depth = [loss(results, f"linear/lsa-d{depth}", seed)[49] for depth in (1, 2, 4)]
    assert by_depth == sorted(by_depth, reverse=True)


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
def test_one_linear_layer_is_one_gradient_step(results: Path, seed: int) -> None:
    ratio = loss(results, "linear/lsa-d1", seed) / loss(results, "linear/gd1", seed)
    assert (ratio[5:] - 1).abs().max() < 0.1


@pytest.mark.long
@pytest.mark.parametrize("split", ["in_sample", "held_out"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_target_probe_falls_with_depth(results: Path, seed: int, split: str) -> None:
    probes = pd.read_parquet(results / f"runs/linear/lsa-d6/seed-{seed}/probes.parquet")
    chosen = probes.query("target == 'next_token' and split == @split and model == 'trained' and batch == 0")
    by_layer = chosen.groupby("layer")["mse"].mean().tolist()
    assert by_layer == sorted(by_layer, reverse=True)
