"""Linear layers in the place of softmax ones: from weights to tables, by hand, and what is refused."""

import math
from pathlib import Path

import pytest
import torch
from stage_files import N, run

from mesaopt.analyses.linearisation import read_linear_layers, swapped, write_linear_layers
from mesaopt.analyses.trained import Trained
from mesaopt.data.sequences import training_batch
from mesaopt.errors import InputError
from mesaopt.models.transformer import initialise
from mesaopt.models.weights import save_weights
from mesaopt.spec.analysis import Distil, Linearise
from mesaopt.spec.run import Model, Run
from mesaopt.stages.distil import distil_stage
from mesaopt.stages.linear_weights import linear_weights_stage
from mesaopt.stages.linearise import linearise_stage
from mesaopt.store.tables import read_table
from mesaopt.training.distillation import NAMES
from mesaopt.training.run_folder import write_spec

MODEL = Model(("softmax", "softmax"), "raw", 6, n_heads=2, d_head=4, init_std=0.6, d_pe=4)
RUN = Run("linear/softmax", run("softmax").task, MODEL, run("softmax").training)
SETTINGS = Distil(steps=2, batch=4, recorded=400)
TEST = Linearise(test_batches=2, test_batch=5)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "seed-1"
    folder.mkdir()
    write_spec(RUN, 1, folder / "spec.json")
    save_weights(initialise(MODEL, N, [1]).seed_weights(0), folder / "weights.safetensors")
    return folder / "weights.safetensors"


@pytest.fixture
def layers(weights: Path, tmp_path: Path) -> Path:
    found = tmp_path / "linear.safetensors"
    distil_stage(weights, tmp_path / "checkpoints", found, tmp_path / "distillation.parquet", SETTINGS)
    assert not (tmp_path / "checkpoints/distil/linear/softmax").exists()
    assert read_table(tmp_path / "distillation.parquet", "distillation")["step"].tolist() == [1, 2]
    return found


def test_losses_with_linear_layers_by_hand(weights: Path, layers: Path, tmp_path: Path) -> None:
    """Layer by layer through blocks of either kind."""
    linearise_stage(weights, layers, tmp_path / "out.parquet", TEST)
    table = read_table(tmp_path / "out.parquet", "linearisation").set_index(["start", "layer"])
    assert sorted(table.index) == [(start, layer) for start in ("plain", "softmax") for layer in (0, 1, 2)]
    trained, linear = Trained.read(weights), read_linear_layers(layers)
    observations = torch.cat([training_batch(RUN.task, [1], 5, "linearise_test", i)[0] for i in (0, 1)])

    def loss(start: str, replaced: set[int]) -> float:
        model = swapped(trained, linear, start, replaced)
        assert [kind == "linear" for kind in model.model.layers] == [number in replaced for number in range(2)]
        predictions = model(observations[None, :, :-1])[0]
        return (predictions - observations[:, 1:]).square().sum(-1).mean().item() / 2

    for start in ("plain", "softmax"):
        for layer, replaced in ((0, {0, 1}), (1, {0}), (2, {1})):
            row = table.loc[(start, layer)]
            assert row["loss"] == pytest.approx(loss(start, replaced), rel=1e-5)
            assert row["normalised"] == pytest.approx(loss(start, replaced) / loss(start, set()), rel=1e-5)
    errors = table["error"].loc["softmax"]
    assert errors.loc[0] == pytest.approx((errors.loc[1] + errors.loc[2]) / 2) and 0 < errors.loc[1] < 1
    assert (table["error"].loc["plain"] > errors).all(), "two steps are few from random weights"


def test_a_linear_layer_that_says_what_the_softmax_layer_says_costs_nothing(weights: Path) -> None:
    """Attention that gives nothing: W_O zero on both sides."""
    trained = Trained.read(weights)
    with torch.no_grad():
        for layer in trained.model.blocks():
            layer.W_O.zero_()
    linear = {
        ("plain", n): {name: getattr(of, name)[0].detach() for name in NAMES} for n, of in enumerate(trained.model.blocks())
    }
    tokens = torch.randn(1, 3, 8, N)
    assert torch.equal(swapped(trained, linear, "plain", {0, 1})(tokens), trained.model(tokens))


def test_weights_of_both(weights: Path, layers: Path, tmp_path: Path) -> None:
    linear_weights_stage(weights, layers, tmp_path / "out.parquet")
    table = read_table(tmp_path / "out.parquet", "linear_weights")
    assert set(table["start"]) == {"trained", "softmax", "plain"}
    of = Trained.read(weights).model.blocks()[1]

    def matrix(start: str, product: str) -> torch.Tensor:
        rows = table[(table["start"] == start) & (table["layer"] == 2) & (table["head"] == 2) & (table["product"] == product)]
        return torch.from_numpy(rows.pivot(index="row", columns="col", values="value").to_numpy().copy())

    torch.testing.assert_close(matrix("trained", "QK"), (of.W_K[0, 1].mT @ of.W_Q[0, 1] / math.sqrt(4)).detach())
    torch.testing.assert_close(matrix("trained", "OV"), (of.W_O[0, 1] @ of.W_V[0, 1]).detach())
    linear = read_linear_layers(layers)["softmax", 1]
    torch.testing.assert_close(matrix("softmax", "QK"), linear["W_K"][1].mT @ linear["W_Q"][1])


def test_files_that_do_not_fit_are_one_line(weights: Path, layers: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the weights of linear layers: embedding"):
        read_linear_layers(weights)
    found = read_linear_layers(layers)
    write_linear_layers({key: of for key, of in found.items() if key != ("plain", 1)}, layers)
    with pytest.raises(InputError, match="linear/softmax: no linear layer of start plain for layer 2"):
        linearise_stage(weights, layers, tmp_path / "out.parquet", TEST)
    with pytest.raises(InputError, match="no such file"):
        read_linear_layers(tmp_path / "absent")
