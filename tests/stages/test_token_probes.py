"""Token probes against one least-squares problem at a time."""

import numpy as np
import pytest
from copying import copying
from stage_files import TASK, observations, run, sequences, trained, transformer

from mesaopt.__main__ import main
from mesaopt.analyses.token_probes import token_table
from mesaopt.analyses.trained import Trained
from mesaopt.data.files import read_sequences
from mesaopt.data.test_sets import shared_batches
from mesaopt.data.tokens import tokenise
from mesaopt.models.weights import load_model, load_weights, save_weights
from mesaopt.spec.analysis import Tokens
from mesaopt.stages.token_probes import token_probes_stage
from mesaopt.store.tables import check_table, read_table

T = TASK.context_length


def stream(model, data, layer, position):
    activations = model.activations(tokenise(data[:, :-1], model.model.tokens)[None])[1]
    return activations[f"layer_{layer}"][0, :, position - 1].detach().double().numpy()


def naive(model, fitted, scored, settings, position, shift=0):
    """mse and r2 by element, with targets of other sequences where there is a shift."""
    x_fit, x_score = (stream(model, one, settings.layer, position) for one in (fitted, scored))
    found = {}
    for token in range(position - settings.tokens + 1, position + 1):
        y_fit, y_score = (np.roll(one[:, token - 1].double().numpy(), shift, 0) for one in (fitted, scored))
        errors = x_score @ np.linalg.lstsq(x_fit, y_fit, rcond=1e-6)[0] - y_score
        r2 = 1 - (errors**2).sum(0) / ((y_score - y_score.mean(0)) ** 2).sum(0)
        found[token] = ((errors**2).mean(), r2.mean())
    return found


def of_splits(evaluation=30, probe_fit=90, probe_score=70):
    counts = {"evaluation": evaluation, "probe_fit": probe_fit, "probe_score": probe_score}
    return {split: observations(count, seed).float() for seed, (split, count) in enumerate(counts.items())}


def check(rows, expected):
    rows = rows.sort_values("token")
    assert rows["token"].tolist() == list(expected)
    np.testing.assert_allclose(rows[["mse", "r2"]], np.array(list(expected.values())), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("softmax", Tokens(tokens=8)), ("full-mesa", Tokens(position=6, tokens=3)), ("linear", Tokens(layer=2, tokens=4))],
)
def test_token_probes_equal_one_least_squares_problem_at_a_time(kind, settings):
    model, splits, position = transformer(kind), of_splits(), settings.position or T
    table = token_table(Trained(run(kind), 1, model), splits, False, settings)
    check_table(table, "token_probes", "token_probes")
    assert set(table["t"]) == {position} and set(table["layer"]) == {settings.layer} and len(table) == 2 * settings.tokens
    expected = naive(model, splits["probe_fit"], splits["probe_score"], settings, position)
    check(table[table["split"] == "held_out"], expected)
    check(table[table["split"] == "in_sample"], naive(model, *[splits["evaluation"]] * 2, settings, position))


def test_the_input_holds_its_own_element_and_a_layer_that_copies_the_one_before_too():
    splits = of_splits(probe_fit=400, probe_score=300)
    trained = Trained(run("softmax"), 1, copying())
    for layer, decodable in ((0, {T}), (1, {T - 1, T})):
        table = token_table(trained, splits, False, Tokens(layer=layer)).query("split == 'held_out'")
        good = table["token"].isin(decodable)
        assert table[good]["r2"].min() > 0.999 and table[good]["mse"].max() < 1e-3
        assert table[~good]["r2"].max() < 0.1 and table[~good]["mse"].min() > 0.8  # channels have variance one


def test_controls_are_the_untrained_model_other_elements_and_the_shared_batches(tmp_path):
    weights = trained(tmp_path, "softmax", seed=11)
    save_weights({name: 1.3 * tensor for name, tensor in load_weights(weights).items()}, weights)  # as if it had been trained
    data = sequences(tmp_path, evaluation=40, probe_fit=200, probe_score=100)
    token_probes_stage(weights, data, tmp_path / "a.parquet", controls=True, settings=Tokens(in_sample=35, test_batches=2))
    table = read_table(tmp_path / "a.parquet", "token_probes")
    model, untrained = load_model(run("softmax"), weights), transformer("softmax", seed=11)
    fitted, scored = (read_sequences(data, split) for split in ("probe_fit", "probe_score"))
    own = read_sequences(data, "evaluation")[:35]
    batch = dict(shared_batches(TASK, 35))[2]
    held_out, plain = "split == 'held_out'", "target == 'token'"
    check(table.query(f"model == 'untrained' and {held_out}"), naive(untrained, fitted, scored, Tokens(), T))
    check(table.query(f"target == 'shuffled_token' and {held_out}"), naive(model, fitted, scored, Tokens(), T, shift=1))
    check(table.query(f"model == 'trained' and {plain} and batch == 0 and not {held_out}"), naive(model, own, own, Tokens(), T))
    check(table.query("batch == 2"), naive(model, batch, batch, Tokens(), T))
    assert len(table) == (2 * 2 + 2 + 2) * 8  # splits of two targets, of the untrained model, shared batches
    token_probes_stage(weights, data, tmp_path / "b.parquet", settings=Tokens(in_sample=35))
    rows = table.query(f"model == 'trained' and {plain} and batch == 0").reset_index(drop=True)
    found = read_table(tmp_path / "b.parquet", "token_probes")
    np.testing.assert_allclose(rows[["token", "mse", "r2"]], found[["token", "mse", "r2"]], rtol=1e-12)


def test_what_cannot_be_is_one_line(tmp_path, capsys):
    words = ["token-probes", "--weights", str(trained(tmp_path, "softmax")), "--sequences", str(tmp_path / "absent.parquet")]
    wrong = {
        '{"layer": 3}': "token probes of layer 3: the model has 2",
        '{"position": 9}': "token probes at position 9: the context length is 8",
        '{"tokens": 9}': "token probes of 9 elements: there are 8 up to that position",
        '{"position": 3, "tokens": 4}': "token probes of 4 elements: there are 3 up to that position",
        '{"layer": -1}': "layer must not be negative (0 is the input), not -1",
        '{"tokens": 0}': "tokens must be at least 1, not 0",
        '{"token": 8}': "tokens: unknown key 'token': did you mean 'tokens'?",
    }
    for settings, line in wrong.items():
        assert main([*words, "--out", str(tmp_path / "a.parquet"), "--settings", settings]) == 1
        said = capsys.readouterr().err
        assert line in said and said.count("\n") == 1
