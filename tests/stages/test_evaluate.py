"""Loss by position against a loop, and the stages that write it."""

import itertools
import json

import pandas as pd
import pytest
import torch
from stage_files import MODELS, TASK, N, observations, sequences, trained, transformer

from mesaopt.algorithms.gradient_descent import GradientDescent
from mesaopt.algorithms.least_squares import LeastSquares
from mesaopt.data.files import read_sequences
from mesaopt.data.own_sequences import own_sequences
from mesaopt.data.test_sets import shared_batches
from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.predictors import loss_by_position, losses, model_predictor
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.analysis import Evaluate
from mesaopt.spec.run import read_run
from mesaopt.stages.evaluate import evaluate_lsq, evaluate_run, evaluate_theory, statistics
from mesaopt.store.tables import read_table, write_table


def naive_loss(predictor, data):
    """Half the squared error summed over channels, one sequence, position and channel at a time."""
    batch, elements, n_obs = data.shape
    losses = []
    for t in range(elements - 1):
        total = 0.0
        for sequence in data:
            prediction = predictor(sequence[None, :-1])[0, t]
            total += sum(0.5 * (prediction[i] - sequence[t + 1, i]).item() ** 2 for i in range(n_obs))
        losses.append(total / batch)
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_loss_equals_the_loop_whatever_the_chunk(chunk):
    data = observations(6)
    torch.testing.assert_close(
        loss_by_position(GradientDescent(0.1), data, chunk), naive_loss(GradientDescent(0.1), data), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_losses_of_single_sequences_have_the_loop_as_their_mean(chunk):
    data = observations(6)
    found = losses(GradientDescent(0.1), data, chunk)
    assert found.shape == (6, TASK.context_length)
    torch.testing.assert_close(found.mean(0), naive_loss(GradientDescent(0.1), data), rtol=1e-12, atol=0)
    torch.testing.assert_close(found[4], naive_loss(GradientDescent(0.1), data[4:5]), rtol=1e-12, atol=0)


def test_statistics_are_those_of_the_sequences_one_position_at_a_time():
    values = torch.rand(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) ** 4
    table = statistics(values).set_index("t")
    assert set(table["sequences"]) == {7}
    for t in (1, 2, 3):
        column = sorted(values[:, t - 1].tolist())
        mean = sum(column) / 7
        variance = sum((value - mean) ** 2 for value in column) / 6
        assert table["mse"][t] == pytest.approx(mean) and table["median"][t] == column[3]
        assert table["error"][t] == pytest.approx((variance / 7) ** 0.5)
    assert statistics(values[:1])["error"].tolist() == [0, 0, 0]


def test_more_sequences_than_the_file_has_are_the_same_for_all_and_leave_the_first_ones(tmp_path):
    """Drawn in chunks, of which a smaller number is the beginning; on them models and algorithms are evaluated alike."""
    first = observations(12).float()
    few, many = (torch.cat(list(own_sequences(TASK, 1, first, n, chunk=8))) for n in (15, 31))
    assert len(few) == 15 and len(many) == 31 and torch.equal(many[:15], few) and torch.equal(few[:12], first)
    assert not torch.equal(torch.cat(list(own_sequences(TASK, 2, first, 15, chunk=8)))[12:], few[12:])
    assert len(many.flatten(1).unique(dim=0)) == 31, "no sequence occurs twice"
    assert torch.equal(torch.cat(list(own_sequences(TASK, 1, first, 0))), first)
    data, weights = sequences(tmp_path), trained(tmp_path / "seed-1", "linear")
    evaluate_run(weights, data, "LSA-2", tmp_path / "a.parquet", Evaluate(test_batches=1, sequences=31))
    table = read_table(tmp_path / "a.parquet", "loss").query("batch == 0")
    own = torch.cat(list(own_sequences(TASK, 1, read_sequences(data, "evaluation"), 31)))
    expected = naive_loss(model_predictor(transformer("linear")), own)
    assert table["mse"].to_numpy() == pytest.approx(expected.numpy(), rel=1e-5) and set(table["sequences"]) == {31}


def test_predicting_zero_costs_half_the_squared_norm_and_the_truth_costs_nothing():
    data = observations(5)
    zero = loss_by_position(torch.zeros_like, data)
    torch.testing.assert_close(zero, data[:, 1:].square().sum(-1).mean(0) / 2)
    assert loss_by_position(lambda inputs: data[:, 1:], data, chunk=5).abs().max() == 0


def test_a_model_is_a_predictor_that_sees_inputs_and_no_targets():
    data, model = observations(5).float(), transformer("linear")
    expected = model(tokenise(data[:, :-1], MODELS["linear"].tokens)[None])[0]
    predicted = model_predictor(model)(data[:, :-1])
    torch.testing.assert_close(predicted, expected.detach(), rtol=1e-6, atol=1e-7)
    assert not predicted.requires_grad


def test_models_and_algorithms_are_written_as_the_same_table(tmp_path):
    data, weights = sequences(tmp_path), trained(tmp_path / "seed-1", "linear")
    evaluate_run(weights, data, "LSA-2", tmp_path / "model.parquet")
    theory = Theory("linear/gd1", TASK, "gd", steps=1, lr=0.1)
    frame = pd.DataFrame({"parameter": ["eta", "w_0"], "step": [0, 0], "value": [0.25, 0.5]})
    write_table(frame, "parameters", tmp_path / "parameters.parquet")
    evaluate_theory(theory, tmp_path / "parameters.parquet", data, 1, "GD-1", tmp_path / "theory.parquet")
    evaluate_lsq(0.01, data, "LSQ", tmp_path / "lsq.parquet")
    evaluation = read_sequences(data, "evaluation")
    batches = {0: evaluation, **dict(shared_batches(TASK, len(evaluation)))}
    expected = {
        "model": ("LSA-2", model_predictor(transformer("linear"))),
        "theory": ("GD-1", GradientDescent(0.25, 0.5)),
        "lsq": ("LSQ", LeastSquares(0.01)),
    }
    for name, (series, predictor) in expected.items():
        table = read_table(tmp_path / f"{name}.parquet", "loss")
        assert set(table["predictor"]) == {series}
        # least squares belongs to no task, so there are no sequences to draw for it
        assert set(table["batch"]) == ({0} if name == "lsq" else {0, 1, 2, 3, 4, 5})
        for number, rows in table.groupby("batch"):
            assert rows["t"].tolist() == list(range(1, TASK.context_length + 1))
            assert rows["mse"].to_numpy() == pytest.approx(naive_loss(predictor, batches[number]).numpy(), rel=1e-5)


def test_shared_batches_are_as_large_as_published_and_no_larger_than_the_own_one():
    assert [len(next(iter(shared_batches(TASK, own)))[1]) for own in (12, 256, 2048)] == [12, 256, 256]


def test_shared_batches_are_other_sequences_each_and_the_same_for_all(tmp_path):
    batches = dict(shared_batches(TASK, 12))
    assert list(batches) == [1, 2, 3, 4, 5]
    for number, batch in shared_batches(TASK, 12):
        assert torch.equal(batch, batches[number]) and batch.shape == (12, TASK.context_length + 1, N)
    evaluation = read_sequences(sequences(tmp_path), "evaluation")
    for one, other in itertools.combinations([evaluation, *batches.values()], 2):
        assert not (one[:, 0, None] == other[None, :, 0]).all(-1).any(), "sequences occur twice"


def test_spec_and_seed_are_read_from_beside_the_weights(tmp_path):
    weights = trained(tmp_path, "bare", seed=11)
    run, seed = read_run(weights)
    assert (run.model, run.task, seed) == (MODELS["bare"], TASK, 11)


@pytest.mark.parametrize(
    "content", [None, "{", "[]", '{"seed": 1}', json.dumps({"name": "x"})], ids=["missing", "cut", "list", "empty", "seedless"]
)
def test_a_missing_or_damaged_spec_is_one_line(tmp_path, content):
    weights = trained(tmp_path, "linear")
    (tmp_path / "spec.json").unlink()
    if content is not None:
        (tmp_path / "spec.json").write_text(content)
    with pytest.raises(InputError, match=r"spec\.json: ") as error:
        read_run(weights)
    assert "\n" not in str(error.value)


def test_sequences_of_another_width_are_refused_and_nothing_is_written(tmp_path):
    other = sequences(tmp_path, type(TASK)("linear", n_state=N + 1, n_obs=N + 1, context_length=8), evaluation=4)
    with pytest.raises(InputError, match=f"observations have {N + 1} channels; the predictor needs {N}"):
        evaluate_run(trained(tmp_path, "linear"), other, "LSA-2", tmp_path / "loss.parquet")
    assert not (tmp_path / "loss.parquet").exists()


def test_a_regulariser_must_be_positive(tmp_path):
    with pytest.raises(InputError, match="--inverse-lam must be positive, not 0"):
        evaluate_lsq(0.0, sequences(tmp_path), "LSQ", tmp_path / "loss.parquet")
