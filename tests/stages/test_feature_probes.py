"""Feature probes against one least-squares problem at a time, of features written out."""

import math

import numpy as np
import torch
from stage_files import TRAINING, N, sequences, trained

from mesaopt.__main__ import main
from mesaopt.analyses.feature_probes import feature_table
from mesaopt.analyses.trained import Trained
from mesaopt.data.files import read_sequences
from mesaopt.data.random import generator
from mesaopt.data.sequences import generate
from mesaopt.data.tasks.nonlinear import mlp
from mesaopt.data.test_sets import shared_batches
from mesaopt.models.transformer import initialise
from mesaopt.models.weights import save_weights
from mesaopt.spec.analysis import Samples
from mesaopt.spec.run import Model, Run, Task
from mesaopt.stages.feature_probes import feature_probes_stage
from mesaopt.store.tables import check_table, read_table
from mesaopt.training.run_folder import write_spec

TASK = Task("nonlinear", n_state=N, n_obs=N, context_length=6)
MODEL = Model(("softmax", "mesa"), "raw", 7, n_heads=2, d_head=4, init_std=0.4, clip=2.0, d_pe=4, d_mlp=9, normalise="qk")
RUN = Run("nonlinear/hybrid", TASK, MODEL, TRAINING)
COUNTS = {"evaluation": 40, "probe_fit": 120, "probe_score": 80}


def features(states):
    """gelu(h A) B, gelu by tanh."""
    x = states.double().numpy() @ mlp(N).a.double().numpy()
    gelu = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return gelu @ mlp(N).b.double().numpy()


def naive(model, fitted, scored, shift=0):
    """mse and r2 (layer, t)."""
    streams = [
        [one[0].detach().double().numpy() for one in model.activations(data[None, :, :-1])[1].values()]
        for data in (fitted, scored)
    ]
    targets = [np.roll(features(data), shift, 0) for data in (fitted, scored)]
    errors, explained = np.empty((2, 3, TASK.context_length))
    for layer, t in np.ndindex(3, TASK.context_length):
        solution = np.linalg.lstsq(streams[0][layer][:, t], targets[0][:, t], rcond=1e-6)[0]
        values = targets[1][:, t]
        squares = (streams[1][layer][:, t] @ solution - values) ** 2
        errors[layer, t] = squares.mean()
        explained[layer, t] = (1 - squares.sum(0) / ((values - values.mean(0)) ** 2).sum(0)).mean()
    return errors, explained


def check(rows, expected):
    rows = rows.sort_values(["layer", "t"])
    for column, values in zip(("mse", "r2"), expected, strict=True):
        np.testing.assert_allclose(rows[column].to_numpy().reshape(values.shape), values, rtol=1e-5, atol=1e-9)


def of_splits():
    return {split: generate(TASK, count, generator(1, split)).observations for split, count in COUNTS.items()}


def test_feature_probes_equal_one_least_squares_problem_at_a_time():
    model, splits = initialise(MODEL, N, [1]), of_splits()
    table = feature_table(Trained(RUN, 1, model), splits, False)
    check_table(table, "feature_probes", "feature_probes")
    assert set(table["layer"]) == {0, 1, 2} and table["t"].max() == TASK.context_length and len(table) == 2 * 3 * 6
    check(table[table["split"] == "held_out"], naive(model, splits["probe_fit"], splits["probe_score"]))
    check(table[table["split"] == "in_sample"], naive(model, *[splits["evaluation"]] * 2))


def test_the_mlp_of_the_task_in_the_model_is_decoded_and_from_the_input_it_is_not():
    """A block whose MLP is that of the task, beside the state that it reads."""
    model = initialise(Model(("softmax",), "raw", 2 * N, n_heads=1, d_head=2, init_std=0.1, d_mlp=40), N, [1])
    zero = torch.zeros(1, 2, 2 * N)
    model.load_seeds([{
        "embedding": torch.eye(2 * N, N),
        "unembedding": torch.eye(N, 2 * N),
        **{f"layers.0.{name}": zero for name in ("W_Q", "W_K", "W_V")},
        "layers.0.W_O": zero.mT,
        "layers.0.W_1": torch.nn.functional.pad(mlp(N).a.mT, (0, N)),
        "layers.0.W_2": torch.nn.functional.pad(mlp(N).b.mT, (0, 0, N, 0)),
    }])  # fmt: skip
    table = feature_table(Trained(RUN, 1, model), of_splits(), False).query("split == 'held_out'")
    assert table.query("layer == 1")["r2"].min() > 1 - 1e-6
    assert table.query("layer == 0 and t > 1")["r2"].max() < 0.9


def test_controls_are_the_untrained_model_other_features_and_the_shared_batches(tmp_path):
    write_spec(RUN, 11, tmp_path / "spec.json")
    untrained, model = initialise(MODEL, N, [11]), initialise(MODEL, N, [12])
    save_weights(model.seed_weights(0), tmp_path / "weights.safetensors")
    data = sequences(tmp_path, TASK, **COUNTS)
    feature_probes_stage(tmp_path / "weights.safetensors", data, tmp_path / "a.parquet", True, Samples(30, test_batches=2))
    table = read_table(tmp_path / "a.parquet", "feature_probes")
    fitted, scored = (read_sequences(data, split) for split in ("probe_fit", "probe_score"))
    batch = dict(shared_batches(TASK, 30))[2]
    check(table.query("model == 'untrained' and split == 'held_out'"), naive(untrained, fitted, scored))
    check(table.query("target == 'shuffled_features' and split == 'held_out'"), naive(model, fitted, scored, shift=1))
    check(table.query("batch == 2"), naive(model, batch, batch))
    assert set(table["batch"]) == {0, 1, 2} and len(table) == (2 * 2 + 2 + 2) * 3 * 6


def test_a_task_without_features_is_refused_in_one_line(tmp_path, capsys):
    words = ["feature-probes", "--weights", str(trained(tmp_path, "softmax")), "--sequences", str(tmp_path / "absent.parquet")]
    assert main([*words, "--out", str(tmp_path / "a.parquet")]) == 1
    said = capsys.readouterr().err
    assert "feature probes are of tasks with features, which task kind linear has not" in said and said.count("\n") == 1
    assert not (tmp_path / "a.parquet").exists()
