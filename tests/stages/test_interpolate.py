"""Interpolation along a second training: losses are those of the models in question, on the training's own test batches."""

import pytest
import torch
from stage_files import MODELS, N, run, trained, transformer

from mesaopt.analyses.snapshots import read_snapshots
from mesaopt.data.sequences import training_batch
from mesaopt.errors import InputError
from mesaopt.models.predictors import loss_by_position, model_predictor
from mesaopt.models.products import ProductModel, average
from mesaopt.models.weights import load_weights, save_weights
from mesaopt.stages.interpolate import interpolate_run
from mesaopt.store.tables import read_table
from mesaopt.training.run_folder import write_spec

STEPS = {0: 3, 20: 4, 100: 5}  # step: seed of the weights that stand for it


def second_training(folder, kind="linear", seed=11):
    folder.mkdir()
    write_spec(run(kind), seed, folder / "spec.json")
    snapshots = {f"step-{step}/{name}": tensor for step, s in STEPS.items() for name, tensor in weights(kind, s).items()}
    save_weights(snapshots, folder / "snapshots.safetensors")
    return folder / "snapshots.safetensors"


def weights(kind, seed):
    return transformer(kind, seed).seed_weights(0)


def test_loss(predictor, seed=11):
    batches = [training_batch(run("linear").task, [seed], 16, "test", i)[0] for i in range(2)]
    return sum(loss_by_position(predictor, batch).mean().item() for batch in batches) / 2


test_loss.__test__ = False  # the quantity of that name


def test_every_loss_is_that_of_its_model(tmp_path):
    first, snapshots = trained(tmp_path / "first", "linear"), second_training(tmp_path / "second")
    interpolate_run(first, snapshots, tmp_path / "out.parquet")
    rows = read_table(tmp_path / "out.parquet", "interpolation")
    table = rows[rows["batch"] == 0].pivot(index="step", columns="predictor", values="test_loss")
    assert table.index.tolist() == list(STEPS)
    compressed = ProductModel.from_weights(load_weights(first), MODELS["linear"], N).compress()
    for step, seed in STEPS.items():
        model = ProductModel.from_weights(weights("linear", seed), MODELS["linear"], N)
        # the Transformer itself, not its products, stands behind the trained curve
        assert table["trained"][step] == pytest.approx(test_loss(model_predictor(transformer("linear", seed))), rel=1e-5)
        assert table["interpolation"][step] == pytest.approx(test_loss(average(compressed, model)), rel=1e-5)
        assert table["compressed"][step] == pytest.approx(test_loss(compressed), rel=1e-5)
        second = rows[(rows["batch"] == 2) & (rows["step"] == step)].set_index("predictor")["test_loss"]
        batch = training_batch(run("linear").task, [11], 16, "test", 1)[0]
        assert second["interpolation"] == pytest.approx(
            loss_by_position(average(compressed, model), batch).mean().item(), rel=1e-5
        )
    assert set(rows["batch"]) == {0, 1, 2}


def test_weights_that_are_compressed_already_interpolate_to_themselves(tmp_path):
    """Factors that give exact multiples of the identity in every block: all three curves are one."""
    eye = torch.eye(N)
    scale = {name: 0.1 * torch.arange(1.0, 5.0).roll(i).reshape(1, 4) for i, name in enumerate(("W_Q", "W_K", "W_V"))}
    exact = {f"layers.0.{name}": torch.kron(row, eye)[None] for name, row in scale.items()}
    exact["layers.0.W_O"] = exact["layers.0.W_V"].mT
    model = type(MODELS["linear"])(("linear",), "constructed", 4 * N, n_heads=1, d_head=N, init_std=0.3, clip=4.0)
    spec = type(run("linear"))("linear/exact", run("linear").task, model, run("linear").training)
    write_spec(spec, 1, tmp_path / "spec.json")
    save_weights(exact, tmp_path / "weights.safetensors")
    save_weights({f"step-0/{name}": tensor for name, tensor in exact.items()}, tmp_path / "snapshots.safetensors")
    interpolate_run(tmp_path / "weights.safetensors", tmp_path / "snapshots.safetensors", tmp_path / "out.parquet")
    losses = read_table(tmp_path / "out.parquet", "interpolation").query("batch == 0")["test_loss"]
    assert len(losses) == 3 and losses.max() - losses.min() < 1e-6 * losses.min()


def test_snapshots_come_in_the_order_of_steps(tmp_path):
    assert list(read_snapshots(second_training(tmp_path / "second"))) == [0, 20, 100]


def test_other_files_are_refused_in_one_line(tmp_path):
    first = trained(tmp_path / "first", "linear")
    with pytest.raises(InputError, match="not the snapshots of a training: found"):
        interpolate_run(first, first, tmp_path / "out.parquet")
    with pytest.raises(InputError, match="same layers"):
        interpolate_run(first, second_training(tmp_path / "bare", "bare"), tmp_path / "out.parquet")
    with pytest.raises(InputError, match="linear layers on constructed tokens"):
        interpolate_run(trained(tmp_path / "mesa", "mesa"), second_training(tmp_path / "second"), tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
