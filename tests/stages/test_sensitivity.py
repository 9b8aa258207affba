"""Sensitivity against a derivative of one output channel of one sequence at a time, in float64."""

import numpy as np
import pytest
import torch
from copying import copying
from stage_files import MODELS, TASK, observations, run, sequences, trained, transformer

from mesaopt.__main__ import main
from mesaopt.analyses import sensitivity
from mesaopt.analyses.sensitivity import sensitivities, sensitivity_table
from mesaopt.data.files import read_sequences
from mesaopt.data.test_sets import shared_batches
from mesaopt.data.tokens import tokenise
from mesaopt.models.by_hand import naive_form
from mesaopt.models.weights import save_weights
from mesaopt.spec.analysis import Sensitivity
from mesaopt.stages.sensitivity import sensitivity_stage
from mesaopt.store.tables import read_table
from mesaopt.training.run_folder import write_spec

T = TASK.context_length


def naive(model, data):
    """The double loop, through the whole model and the equations as they are written."""
    norms = []
    for sequence in data:
        inputs = sequence[:T].clone().requires_grad_()
        with naive_form():
            last = model.activations(tokenise(inputs[None], model.model.tokens)[None])[1]["layer_1"][0, 0, -1]
        norms += [torch.autograd.grad(channel, inputs, retain_graph=True)[0].norm(dim=-1) for channel in last]
    return torch.stack(norms).mean(0)


@pytest.mark.parametrize("kind", MODELS)
def test_sensitivities_are_those_of_single_derivatives(kind, monkeypatch):
    monkeypatch.setattr(sensitivity, "CHANNELS", 4)
    monkeypatch.setattr(sensitivity, "SEQUENCES", 2)
    model, data = transformer(kind).double(), observations(5)
    found, expected = sensitivities(model, data), naive(model, data)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert expected[-1] > 0.01


def test_in_single_precision_they_are_the_same_to_five_digits():
    model, data = transformer("full-mesa"), observations(20)
    found = sensitivities(model, data.float())
    torch.testing.assert_close(found, naive(model.double(), data), rtol=1e-5, atol=1e-6)


def test_a_layer_that_copies_depends_on_the_last_two_elements():
    found = sensitivities(copying(), observations(3).float())
    torch.testing.assert_close(found[-2:], torch.full((2,), 1 / 3).double(), rtol=1e-3, atol=0)  # of nine channels, three each
    assert found[:-2].max() < 1e-3


def test_the_table_has_the_last_elements_one_by_one_and_the_mean_of_the_others():
    values = torch.arange(1.0, 9.0).double()
    rows = sensitivity_table(values, 3).to_numpy().tolist()
    assert rows == [[6, 6, 6.0], [7, 7, 7.0], [8, 8, 8.0], [1, 5, 3.0]]
    assert len(sensitivity_table(values, 8)) == 8


def snapshots(folder, seed, steps=(0, 100, 200)):
    folder.mkdir()
    write_spec(run("softmax"), seed, folder / "spec.json")
    kept = {step: transformer("softmax", seed + step).seed_weights(0) for step in steps}
    named = {f"step-{step}/{name}": tensor for step, one in kept.items() for name, tensor in one.items()}
    save_weights(named, folder / "snapshots.safetensors")
    return folder / "snapshots.safetensors"


def test_the_stage_follows_the_snapshots_on_its_own_batch_and_on_a_shared_one(tmp_path):
    data, settings = sequences(tmp_path, evaluation=9), Sensitivity(until=100, tokens=2, sequences=6)
    sensitivity_stage(snapshots(tmp_path / "a", 1), data, tmp_path / "a.parquet", settings)
    table = read_table(tmp_path / "a.parquet", "sensitivity")
    assert set(table["step"]) == {0, 100} and set(table["batch"]) == {0, 1} and len(table) == 2 * 2 * 3
    batches = {0: read_sequences(data, "evaluation")[:6], **dict(shared_batches(TASK, 6, 1))}
    for step, batch in np.ndindex(2, 2):
        expected = sensitivity_table(sensitivities(transformer("softmax", 1 + 100 * step), batches[batch]), 2)
        found = table.query(f"step == {100 * step} and batch == {batch}")
        np.testing.assert_allclose(found[["first", "last", "sensitivity"]], expected, rtol=1e-12)


def test_what_cannot_be_is_one_line(tmp_path, capsys):
    words = ["sensitivity", "--sequences", str(sequences(tmp_path)), "--out", str(tmp_path / "a.parquet")]
    weights, kept = trained(tmp_path / "a", "raw"), snapshots(tmp_path / "b", 1)
    wrong = {
        (str(kept), '{"tokens": 9}'): "sensitivity to the last 9 elements: the context length is 8",
        (str(kept), '{"until": -1}'): "until must not be negative, not -1",
        (str(kept), '{"token": 6}'): "sensitivity: unknown key 'token': did you mean 'tokens'?",
        (str(weights), "{}"): "not the snapshots of a training",
    }
    for (path, settings), line in wrong.items():
        assert main([*words, "--snapshots", path, "--settings", settings]) == 1
        said = capsys.readouterr().err
        assert line in said and said.count("\n") == 1
    assert not (tmp_path / "a.parquet").exists()
