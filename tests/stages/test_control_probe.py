"""The control probe against one least-squares problem at a time."""

import dataclasses

import numpy as np
import pandas as pd
from stage_files import TASK, N, observations, sequences

from mesaopt.__main__ import main
from mesaopt.algorithms.preconditioning import Preconditioned
from mesaopt.analyses.control_probe import control_table
from mesaopt.analyses.probe_targets import Sample, make_targets
from mesaopt.data.files import read_sequences
from mesaopt.data.test_sets import shared_batches
from mesaopt.spec.algorithm import Theory
from mesaopt.store.tables import read_table, write_table

CHEBYSHEV = Preconditioned((1.0, 2.0), (0.0, 0.5), inverse_lam=0.1)
PUBLISHED = Preconditioned((1.5, 0.5), (0.0, 0.3), inverse_lam=0.3, form="published")
BOTH = {"preconditioned_input": CHEBYSHEV, "preconditioned_input_published": PUBLISHED}


def sample(data):
    return Sample(data, make_targets(TASK, data, BOTH))


def naive(fitted, scored, source="preconditioned_input"):
    """Columns mse and r2 by t, from the formula of the targets."""
    rows = []
    for t in range(TASK.context_length):
        (x_fit, y_fit), (x, y) = (
            (BOTH[source].preconditioned_inputs(one.double()[:, :-1])[:, t].numpy(), one[:, t + 1].double().numpy())
            for one in (fitted, scored)
        )
        kept_fit, kept = ((z := np.linalg.norm(one, axis=1)) <= z.mean() + 2 * z.std() for one in (x_fit, x))
        values = y[kept]
        squares = ((x[kept] @ np.linalg.lstsq(x_fit[kept_fit], y_fit[kept_fit], rcond=1e-6)[0] - values) ** 2).sum(0)
        rows.append((squares.sum() / (2 * kept.sum()), (1 - squares / ((values - values.mean(0)) ** 2).sum(0)).mean()))
    return np.array(rows)


def test_the_control_is_one_least_squares_problem_per_position():
    fitted, scored = observations(80).float(), observations(60, seed=1).float()
    table = control_table(sample(fitted), sample(scored))
    for source in BOTH:
        found = table[table["source"] == source]
        assert found["t"].tolist() == list(range(1, TASK.context_length + 1))
        np.testing.assert_allclose(found[["mse", "r2"]], naive(fitted, scored, source), rtol=1e-6, atol=1e-9)
    assert len(sample(fitted).targets["preconditioned_input"].kept.logical_not().nonzero()) > 0, "leaving out is part of it"


def test_the_stage_writes_both_splits_and_the_shared_batches(tmp_path):
    theory = Theory("linear/chebyshev", TASK, "chebyshev", steps=1, lr=1.0, n_steps=2, inverse_lam=0.1, lag=1)
    rows = [("alpha", 0, 1.0), ("alpha", 1, 2.0), ("beta", 0, 0.0), ("beta", 1, 0.5)]
    write_table(pd.DataFrame(rows, columns=["parameter", "step", "value"]), "parameters", tmp_path / "p.parquet")
    data = sequences(tmp_path, evaluation=40, probe_fit=80, probe_score=60)
    published = dataclasses.replace(theory, form="published")
    words = ["control-probe", "--sequences", data, "--parameters", tmp_path / "p.parquet", "--theory", theory.to_json()]
    words += ["--published-parameters", tmp_path / "p.parquet", "--published-theory", published.to_json()]
    settings = '{"in_sample": 30, "test_batches": 2}'
    assert main([str(word) for word in (*words, "--out", tmp_path / "a.parquet", "--settings", settings)]) == 0
    table = read_table(tmp_path / "a.parquet", "control_probe")
    fitted, scored = (read_sequences(data, split) for split in ("probe_fit", "probe_score"))
    own, batch = read_sequences(data, "evaluation")[:30], dict(shared_batches(TASK, 30))[2]
    cases = {"held_out": (fitted, scored, 0), "in_sample": (own, own, 0), "in_sample ": (batch, batch, 2)}
    for split, (one, other, number) in cases.items():
        found = table.query(f"source == 'preconditioned_input' and split == {split.strip()!r} and batch == {number}")
        np.testing.assert_allclose(found[["mse", "r2"]], naive(one, other), rtol=1e-5, atol=1e-6)
    assert len(table) == 2 * 4 * TASK.context_length and theory.task.n_obs == N


def test_parameters_of_another_algorithm_are_one_line(tmp_path, capsys):
    theory = Theory("linear/gd1", TASK, "gd", steps=1, lr=1.0)
    files = ["--sequences", str(sequences(tmp_path)), "--parameters", str(tmp_path / "p.parquet")]
    published = Theory("linear/p", TASK, "chebyshev", steps=1, lr=1.0, n_steps=2, form="published")
    files += ["--published-parameters", files[-1], "--published-theory", published.to_json()]
    pd.DataFrame({"parameter": ["eta"], "step": [0], "value": [0.1]}).pipe(write_table, "parameters", tmp_path / "p.parquet")
    assert main(["control-probe", *files, "--theory", theory.to_json(), "--out", str(tmp_path / "a.parquet")]) == 1
    said = capsys.readouterr().err
    assert "probes need the parameters of a chebyshev algorithm, not of gd" in said and said.count("\n") == 1
