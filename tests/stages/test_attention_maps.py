"""Attention maps against the softmax of one sequence at a time."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from copying import copying
from stage_files import observations, run, sequences, trained, transformer

from mesaopt.__main__ import main
from mesaopt.analyses.attention_maps import attention_table, lag_table, mean_weights
from mesaopt.data.files import read_sequences
from mesaopt.data.test_sets import shared_batches
from mesaopt.models.transformer import positional_encoding
from mesaopt.models.weights import load_weights, save_weights
from mesaopt.spec.analysis import Attention
from mesaopt.stages.attention import attention_stage
from mesaopt.store.tables import read_table

T = 8


def naive(model, data):
    """One sequence, head, query and key at a time."""
    weights, heads = model.seed_weights(0), model.model.n_heads
    total, positions = np.zeros((heads, T, T)), positional_encoding(T, model.model.d_pe)
    for sequence in data.double():
        e = torch.cat([sequence[:T] @ weights["embedding"].double().mT, positions], 1)
        for h in range(heads):
            W_Q, W_K = (weights[f"layers.0.{name}"][h].double() for name in ("W_Q", "W_K"))
            for t in range(T):
                scores = [((W_K @ e[s]) @ (W_Q @ e[t])).item() / math.sqrt(len(W_Q)) for s in range(t + 1)]
                shares = np.exp(scores)
                total[h, t, : t + 1] += shares / shares.sum()
    return total / len(data)


@pytest.mark.parametrize("chunk", [3, 64])
def test_maps_are_the_mean_of_single_sequences(chunk):
    model, data = transformer("softmax"), 2 * observations(7).float()
    found = mean_weights(model, data, chunk)
    np.testing.assert_allclose(found.numpy(), naive(model, data), rtol=1e-5, atol=1e-6)
    assert found.dtype == torch.float64 and found.numpy().std() > 0.1


def test_rows_of_the_table_are_the_past_of_each_query():
    table = attention_table(mean_weights(transformer("softmax"), observations(5).float()))
    assert len(table) == 3 * T * (T + 1) / 2 and (table["token"] <= table["t"]).all()
    assert set(table["head"]) == {0, 1, 2} and set(table["token"]) == set(table["t"]) == set(range(1, T + 1))
    np.testing.assert_allclose(table.groupby(["head", "t"])["weight"].sum(), 1, rtol=1e-5)


def test_a_layer_that_copies_looks_at_the_element_before():
    table = attention_table(mean_weights(copying(), observations(3).float()))
    before = table.query("head == 1 and token == t - 1")
    assert len(before) == T - 1 and before["weight"].min() > 0.999


def test_head_0_is_the_mean_over_heads():
    wide = attention_table(mean_weights(transformer("softmax"), observations(5).float())).pivot(
        columns="head", index=["t", "token"]
    )
    np.testing.assert_allclose(wide["weight", 0], (wide["weight", 1] + wide["weight", 2]) / 2, rtol=1e-12)


@pytest.mark.parametrize("time", [5, 12])
def test_weights_by_lag_are_means_along_the_diagonals(time):
    weights = torch.rand(3, time, time, dtype=torch.float64).tril()
    table, lags = lag_table(weights), min(8, time)
    assert len(table) == 4 * lags
    for head, lag, found in table.itertuples(index=False):
        heads = [head - 1] if head else [0, 1, 2]
        along = [weights[h, t, t - lag].item() for h in heads for t in range(lags - 1, time)]
        assert found == pytest.approx(np.mean(along))


def test_the_stage_writes_the_model_its_beginning_and_shared_batches(tmp_path):
    weights = trained(tmp_path, "softmax", seed=11)
    save_weights({name: 1.5 * tensor for name, tensor in load_weights(weights).items()}, weights)  # as if it had been trained
    data = sequences(tmp_path, evaluation=4, probe_fit=4, probe_score=40)
    files = tmp_path / "a.parquet", tmp_path / "a_lags.parquet"
    attention_stage(weights, data, *files, controls=True, settings=Attention(sequences=30, test_batches=2))
    table = read_table(tmp_path / "a.parquet", "attention")
    own = read_sequences(data, "probe_score")[:30]
    before = transformer("softmax", seed=11)
    after = transformer("softmax", seed=11)
    after.load_seeds([load_weights(weights)])
    cases = {("trained", 0): (after, own), ("untrained", 0): (before, own)}
    cases |= {("trained", number): (after, batch) for number, batch in shared_batches(run("softmax").task, 30, 2)}
    for (kind, batch), (model, drawn) in cases.items():
        found = table.query(f"model == {kind!r} and batch == {batch}").drop(columns=["model", "batch"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(found, attention_table(mean_weights(model, drawn)), check_dtype=False)
    assert len(table) == 4 * 3 * T * (T + 1) / 2
    lags = read_table(files[1], "attention_lags").query("model == 'trained' and batch == 0").drop(columns=["model", "batch"])
    pd.testing.assert_frame_equal(lags.reset_index(drop=True), lag_table(mean_weights(after, own)), check_dtype=False)
    attention_stage(weights, data, tmp_path / "b.parquet", tmp_path / "b_lags.parquet")
    plain = read_table(tmp_path / "b.parquet", "attention")
    assert set(plain["model"]) == {"trained"} and set(plain["batch"]) == {0}


def test_another_kind_of_layer_is_refused_in_one_line(tmp_path, capsys):
    words = ["attention", "--weights", str(trained(tmp_path, "full-mesa")), "--sequences", str(sequences(tmp_path))]
    assert main([*words, "--out", str(tmp_path / "a.parquet"), "--lags", str(tmp_path / "lags.parquet")]) == 1
    said = capsys.readouterr().err
    assert "begin with a layer of softmax attention, not mesa" in said and said.count("\n") == 1
    assert not (tmp_path / "a.parquet").exists()
