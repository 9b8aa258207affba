"""Probes against one least-squares problem at a time, targets against formulas, the in-context loss of a known algorithm."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from stage_files import TASK, N, observations, run, sequences, trained, transformer
from workflow_folder import ROOT

from mesaopt.algorithms.preconditioning import Preconditioned
from mesaopt.algorithms.reading import Reading
from mesaopt.analyses.in_context import in_context_loss, in_context_table, queries
from mesaopt.analyses.linear_probes import activations, fit, score, solve
from mesaopt.analyses.probe_targets import Sample, Target, make_targets, shuffled
from mesaopt.data.files import read_sequences
from mesaopt.data.tasks import nonlinear
from mesaopt.data.test_sets import shared_batches
from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer, initialise
from mesaopt.models.weights import load_model, load_weights, save_weights
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.plan import resolve
from mesaopt.spec.run import Model, Task
from mesaopt.spec.yaml_files import read_yaml
from mesaopt.stages.probe import probe_run, read_preconditioner, read_preconditioners
from mesaopt.store.tables import check_table, write_table

CHEBYSHEV = Preconditioned((1.0, 2.0), (0.0, 0.5), inverse_lam=0.1)
PUBLISHED = replace(CHEBYSHEV, form="published", inverse_lam=0.3)
T = TASK.context_length


def both(textbook=CHEBYSHEV, published=PUBLISHED):
    return {"preconditioned_input": textbook, "preconditioned_input_published": published}


def sample(count, seed=0):
    data = observations(count, seed).float()
    return Sample(data, make_targets(TASK, data, both()))


def scored_probes(model, fitted, scored=None):
    """Errors on `scored` of probes that are fitted on `fitted`; on the same sequences if there are no others."""
    scored = scored or fitted
    probes = fit(activations(model, fitted.observations), fitted)
    return score(activations(model, scored.observations), scored, probes)


def residual_streams(model, data):
    tokens = tokenise(data[:, :-1], model.model.tokens)[None]
    return [stream[0].detach().double().numpy() for stream in model.activations(tokens)[1].values()]


def naive(model, fitted, scored, name):
    """mse and r2 (layer, t), one least-squares problem by SVD for each."""
    x_fit, x_score = (residual_streams(model, one.observations) for one in (fitted, scored))
    errors, explained = np.empty((2, len(x_fit), T))
    for layer, t in np.ndindex(len(x_fit), T):
        a, b = ((one.targets[name].values[:, t].numpy(), one.targets[name].kept[:, t].numpy()) for one in (fitted, scored))
        solution = np.linalg.lstsq(x_fit[layer][a[1], t], a[0][a[1]], rcond=1e-6)[0]
        values = b[0][b[1]]
        squares = ((x_score[layer][b[1], t] @ solution - values) ** 2).sum(0)
        errors[layer, t] = squares.sum() / (2 * b[1].sum())
        explained[layer, t] = (1 - squares / ((values - values.mean(0)) ** 2).sum(0)).mean()
    return errors, explained


@pytest.mark.parametrize("kind", ["linear", "mesa", "raw"])
def test_probes_equal_one_least_squares_problem_at_a_time(kind):
    model, fitted, scored = transformer(kind), sample(90), sample(70, seed=1)
    found = scored_probes(model, fitted, scored)
    assert not fitted.targets["preconditioned_input"].kept.all(), "leaving out must be part of what is compared"
    for name in fitted.targets:
        mse, r2 = naive(model, fitted, scored, name)
        table = found[found["target"] == name].sort_values(["layer", "t"])
        # absolute for what is decoded exactly: rounding of float32 activations
        np.testing.assert_allclose(table["mse"].to_numpy().reshape(mse.shape), mse, rtol=1e-6, atol=1e-10)
        np.testing.assert_allclose(table["r2"].to_numpy().reshape(r2.shape), r2, rtol=1e-6, atol=1e-6)


def test_targets_may_differ_in_width():
    model, fitted, scored = transformer("raw"), sample(90), sample(70, seed=1)
    narrow = [Target(one.targets["next_token"].values[..., :1], one.targets["next_token"].kept) for one in (fitted, scored)]
    both = [Sample(one.observations, {"x": x, **one.targets}) for one, x in zip((fitted, scored), narrow, strict=True)]
    found = scored_probes(model, *both)
    for name in both[0].targets:
        mse, r2 = naive(model, *both, name)
        table = found[found["target"] == name].sort_values(["layer", "t"])
        np.testing.assert_allclose(table["mse"].to_numpy().reshape(mse.shape), mse, rtol=1e-6, atol=1e-10)
        np.testing.assert_allclose(table["r2"].to_numpy().reshape(r2.shape), r2, rtol=1e-6, atol=1e-6)


def test_solve_is_the_smallest_least_squares_solution_with_zero_and_repeated_channels():
    x = observations(30)[:, 0]
    x = torch.cat([torch.zeros_like(x), x, x], dim=-1)
    y = observations(30, seed=1)[:, 0]
    expected = torch.linalg.lstsq(x, y, driver="gelsd").solution
    torch.testing.assert_close(solve(x.mT @ x, x.mT @ y), expected, rtol=1e-9, atol=1e-10)
    assert solve(torch.zeros(3, 3).double(), torch.ones(3, 2).double()).abs().max() == 0


def test_activations_come_in_chunks_of_sequences_layer_by_layer():
    model, data = transformer("linear"), observations(10).float()
    whole = np.stack(residual_streams(model, data))
    for part, stream in activations(model, data, chunk=4):
        np.testing.assert_allclose(stream.transpose(1, 2).numpy(), whole[:, part], rtol=1e-5, atol=1e-6)
    assert part == slice(8, 12)


def test_the_current_token_is_in_the_input_and_the_next_one_is_not():
    table = scored_probes(transformer("linear"), sample(200), sample(100, seed=1))
    at_input = table[table["layer"] == 0].groupby("target")
    assert at_input["mse"].max()["current_token"] < 1e-12
    assert at_input["r2"].min()["current_token"] > 1 - 1e-9
    assert at_input["r2"].max()["next_token"] < 0.1


def test_preconditioned_inputs_follow_the_formula_with_all_earlier_elements():
    data = observations(40)
    targets = make_targets(TASK, data, both())
    exact = targets["preconditioned_input_exact"].values
    for b, t in np.ndindex(40, T):
        S = data[b, :t].mT  # s_1 .. s_{t-1} for position t + 1
        expected = torch.linalg.solve(S @ S.mT + 0.1 * torch.eye(N).double(), data[b, t])
        torch.testing.assert_close(exact[b, t], expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(targets["preconditioned_input"].values, CHEBYSHEV.preconditioned_inputs(data[:, :-1]))
    torch.testing.assert_close(targets["next_token"].values, data[:, 1:])


def test_preconditioned_inputs_are_of_what_the_algorithm_reads():
    """The latest three observations, or the features of the nonlinear task; s_{t+1} stays what it is."""
    data = observations(30)
    zero = torch.zeros(30, 2, N).double()
    latest = torch.cat([zero, data], 1).unfold(1, 3, 1)[:, :T].flip(-1).mT.flatten(2)  # (s_t, s_{t-1}, s_{t-2})
    features = nonlinear.features(data[:, :T], True)
    assert (features.norm(dim=-1) - 1).abs().max() < 1e-12
    for read, reading in ((latest, Reading(3)), (features, Reading(features=nonlinear.features))):
        targets = make_targets(TASK, data, both(replace(CHEBYSHEV, reading=reading)))
        exact, approximate = targets["preconditioned_input_exact"].values, targets["preconditioned_input"].values
        for b, t in np.ndindex(30, T):
            S = read[b, :t].mT
            expected = torch.linalg.solve(S @ S.mT + 0.1 * torch.eye(len(S)).double(), read[b, t])
            torch.testing.assert_close(exact[b, t], expected, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(approximate, CHEBYSHEV.preconditioned_inputs(read))
        torch.testing.assert_close(targets["next_token"].values, data[:, 1:])


def test_probes_of_a_run_decode_what_its_algorithm_reads(tmp_path):
    """From the parameters to the table: the target is fifteen wide, the elements are three."""
    theory = Theory("linear/k5", TASK, "chebyshev", steps=1, lr=1.0, n_steps=2, input="concatenated", k=5, fixed_inverse_lam=10.0)
    rows = [("alpha", 0, 1.0), ("alpha", 1, 2.0), ("beta", 0, 0.0), ("beta", 1, 0.5)]
    write_table(pd.DataFrame(rows, columns=["parameter", "step", "value"]), "parameters", tmp_path / "p.parquet")
    preconditioner = read_preconditioner(theory, tmp_path / "p.parquet")
    data = sequences(tmp_path, evaluation=30, probe_fit=90, probe_score=70)
    table, _ = probe_run(trained(tmp_path, "raw"), data, both(preconditioner), controls=True)
    drawn = [read_sequences(data, split) for split in ("probe_fit", "probe_score")]
    fitted, scored = (Sample(one, make_targets(TASK, one, both(preconditioner))) for one in drawn)
    assert fitted.targets["preconditioned_input"].values.shape[-1] == 5 * N and preconditioner.inverse_lam == 10.0
    for name in ("next_token", "preconditioned_input", "preconditioned_input_exact"):
        found = table.query(f"model == 'trained' and split == 'held_out' and target == {name!r}").sort_values(["layer", "t"])
        with np.errstate(invalid="ignore"):  # what z_t holds of before the sequence does not vary
            mse, _ = naive(transformer("raw"), fitted, scored, name)
        np.testing.assert_allclose(found["mse"].to_numpy().reshape(mse.shape), mse, rtol=1e-5, atol=1e-10)


def test_large_targets_are_left_out_one_sided_and_by_position():
    kept = make_targets(TASK, observations(200), both())["preconditioned_input_exact"]
    norms = kept.values.norm(dim=-1)
    for t in range(T):
        column = norms[:, t].numpy()
        np.testing.assert_array_equal(kept.kept[:, t].numpy(), column <= column.mean() + 2 * column.std())
    assert 0.8 < kept.kept.double().mean() < 1


def test_contracting_sequences_at_their_bound_do_not_count_for_the_next_token():
    data = observations(20)
    data[3, 5, 1], data[4, 6, 0] = 2.0, -2.0
    kept = make_targets(Task("contracting"), data, both())["next_token"].kept
    np.testing.assert_array_equal(kept.numpy(), (data[:, 1:] < 2).all(-1).numpy())
    assert not kept[3, 4]  # the bound is reached by what position 5 predicts
    assert make_targets(TASK, data, both())["next_token"].kept.all()


def test_left_out_sequences_change_nothing():
    fitted, model = sample(60), transformer("linear")
    values, kept = observations(60, seed=5)[:, 1:], torch.ones(60, T, dtype=torch.bool)
    kept[::3] = False
    wild = torch.where(kept[..., None], values, 1e6)
    few = Sample(fitted.observations[kept[:, 0]], {"next_token": Target(values[kept[:, 0]], torch.ones(40, T, dtype=torch.bool))})
    all_but = Sample(fitted.observations, {"next_token": Target(wild, kept)})
    found, expected = (scored_probes(model, one) for one in (all_but, few))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-8)


def test_shuffled_targets_cannot_be_decoded_from_other_sequences():
    fitted, scored = sample(300), sample(200, seed=1)
    control = [Sample(one.observations, shuffled(dict(one.targets))) for one in (fitted, scored)]
    table = scored_probes(transformer("linear"), *control)
    assert set(table["target"]) == {f"shuffled_{name}" for name in fitted.targets}
    assert table["r2"].max() < 0.05


def test_the_table_has_both_splits_and_held_out_errors_are_larger(tmp_path):
    weights = trained(tmp_path, "linear")
    data = sequences(tmp_path, evaluation=30, probe_fit=200, probe_score=200)
    table, in_context = probe_run(weights, data, both(), in_context=True)
    check_table(table, "probes", "probes")
    check_table(in_context, "in_context", "in_context")
    assert len(table) == 2 * 5 * 3 * T  # splits, targets, layers with the input, positions
    assert set(table["model"]) == {"trained"} and set(table["batch"]) == {0}
    assert in_context[["t", "layer"]].to_numpy().tolist() == [[t, layer] for t in range(2, T) for layer in range(3)]
    mean = table[table["target"] == "next_token"].groupby("split")["mse"].mean()
    assert mean["in_sample"] < mean["held_out"]


def test_controls_are_the_untrained_model_other_targets_and_the_shared_batches(tmp_path):
    """Each one equals the probes made by hand; without controls, the rows of the model itself are the same."""
    weights = trained(tmp_path, "linear", seed=11)
    initial = load_weights(weights)
    save_weights({name: 1.1 * tensor for name, tensor in initial.items()}, weights)  # as if it had been trained
    data = sequences(tmp_path, evaluation=40, probe_fit=200, probe_score=100)
    table, _ = probe_run(weights, data, both(), controls=True)
    check_table(table, "probes", "probes")
    plain, _ = probe_run(weights, data, both())
    own = table.query("model == 'trained' and batch == 0 and not target.str.startswith('shuffled')")
    pd.testing.assert_frame_equal(_sorted(own), _sorted(plain))

    model, untrained = load_model(run("linear"), weights), transformer("linear", seed=11)
    drawn = {split: read_sequences(data, split) for split in ("evaluation", "probe_fit", "probe_score")}
    targets = {split: make_targets(TASK, one, both()) for split, one in drawn.items()}
    batch = dict(shared_batches(TASK, 40))[3]
    cases = [
        ("model == 'untrained' and split == 'held_out'", "next_token", untrained,
         Sample(drawn["probe_fit"], targets["probe_fit"]), Sample(drawn["probe_score"], targets["probe_score"])),
        ("model == 'trained' and split == 'in_sample'", "shuffled_preconditioned_input_published", model,
         *[Sample(drawn["evaluation"], shuffled(targets["evaluation"]))] * 2),
        ("batch == 3", "preconditioned_input_published", model, *[Sample(batch, make_targets(TASK, batch, both()))] * 2),
    ]  # fmt: skip
    for rows, target, probed, fitted, scored in cases:
        of_target = f"target == {target!r}"
        found = table.query(f"{rows} and {of_target}").sort_values(["layer", "t"])["mse"].to_numpy()
        expected = scored_probes(probed, fitted, scored).query(of_target).sort_values(["layer", "t"])["mse"]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-10)
    assert set(table["batch"]) == {0, 1, 2, 3, 4, 5}


def _sorted(table):
    keys = ["model", "split", "batch", "target", "layer", "t"]
    return table.sort_values(keys)[[*keys, "mse", "r2"]].reset_index(drop=True)


def test_the_untrained_model_of_the_paper_holds_nothing_but_its_input(tmp_path):
    """Weights of standard deviation 0.0002 leave the residual stream as it is: probes see the input after every layer."""
    model, sampled = initialise(Model(("linear",) * 2, "constructed", 4 * N, 4, 20, 0.0002), N, [1]), sample(60)
    table = scored_probes(model, sampled).query("target == 'next_token'")
    by_layer = table.pivot(index="t", columns="layer", values="mse")
    for layer in (1, 2):
        np.testing.assert_allclose(by_layer[layer], by_layer[0], rtol=1e-3)


def test_contracting_systems_are_preconditioned_with_their_own_regulariser():
    """1/lambda is the theory entry's: 1.333 at every scale."""
    for scale in ("paper", "laptop", "smoke"):
        files = {name: read_yaml(ROOT / f"config/{name}.yaml") for name in ("experiments", "scales", "config")}
        theory = resolve(files["experiments"], files["scales"], files["config"], scale).algorithm("contracting/proposition2")
        assert (theory.task.name, theory.inverse_lam) == ("contracting", 1.333)
    data = observations(5)
    own = both(Preconditioned((1.0,), (0.0,), theory.inverse_lam))
    exact = make_targets(Task("contracting"), data, own)["preconditioned_input_exact"]
    S = data[2, :6].mT
    expected = torch.linalg.solve(S @ S.mT + 1.333 * torch.eye(N).double(), data[2, 6])
    torch.testing.assert_close(exact.values[2, 6], expected, rtol=1e-9, atol=1e-9)


def test_parameters_of_another_algorithm_are_refused(tmp_path):
    gd = Theory("linear/gd1", TASK, "gd", steps=1, lr=0.1)
    with pytest.raises(InputError, match="linear/gd1: probes need the parameters of a chebyshev algorithm"):
        read_preconditioner(gd, tmp_path / "absent.parquet")


def test_the_published_target_is_the_recursion_written_out():
    """A = S S^T + I/lambda of all t-1 pairs, N its Frobenius norm, X_0 = T_0 = I, T_{k+1} = T_k (I - alpha_k A/N),
    X_{k+1} = X_k + T_{k+1} + beta_k (X_k - X_{k-1}); the target is X_K s_t / N.
    """
    data, eye = observations(20), np.eye(N)
    found = make_targets(TASK, data, both())["preconditioned_input_published"].values
    for b, t in np.ndindex(20, T):
        S = data[b, :t].mT.numpy()
        A = S @ S.T + PUBLISHED.inverse_lam * eye
        norm = np.sqrt((A**2).sum())
        X = before = term = eye
        for alpha, beta in zip(PUBLISHED.alphas, PUBLISHED.betas, strict=True):
            term = term @ (eye - alpha * A / norm)
            X, before = X + term + beta * (X - before), X
        np.testing.assert_allclose(found[b, t].numpy(), X @ data[b, t].numpy() / norm, rtol=1e-9, atol=1e-11)


def test_every_task_is_probed_with_the_published_form_as_it_was_published():
    """1/lambda is 0.001 where scalars are learned; where they are used it is 1.333 on contracting systems, 10 on five
    observations.
    """
    files = {name: read_yaml(ROOT / f"config/{name}.yaml") for name in ("experiments", "scales", "config")}
    plan = resolve(files["experiments"], files["scales"], files["config"], "paper")
    used = {"linear/lsa-d6": 0.001, "contracting/lsa-d6": 1.333, "fixed_teacher/lsa-d6": 0.001}
    used |= {"partial/softmax-d7": 10.0, "nonlinear/softmax-d7": 0.001}
    for name, inverse_lam in used.items():
        theory = plan.algorithm(plan.preconditioner(name, "published"))
        assert (theory.form, theory.n_steps, theory.used_inverse_lam) == ("published", 6, inverse_lam)
        learned = plan.algorithm(theory.scalars) if theory.scalars else theory
        assert (learned.inverse_lam, learned.lag, learned.form) == (0.001, 1, "published")
        textbook = plan.algorithm(plan.preconditioner(name))
        assert (textbook.input, textbook.k, textbook.form) == (theory.input, theory.k, "textbook")


def test_an_algorithm_of_the_other_form_is_refused(tmp_path):
    text = Theory("linear/p", TASK, "chebyshev", steps=1, lr=0.1, n_steps=2)
    with pytest.raises(InputError, match="linear/p: is of the textbook form, where probes need the published one"):
        read_preconditioners(text, tmp_path / "absent.parquet", text, tmp_path / "absent.parquet")


def test_targets_use_all_pairs_even_if_the_curves_do_not(tmp_path):
    lagged = Theory("linear/p", TASK, "chebyshev", steps=1, lr=0.1, n_steps=2, inverse_lam=0.1, form="published", lag=1)
    rows = [("alpha", 0, 1.0), ("alpha", 1, 2.0), ("beta", 0, 0.0), ("beta", 1, 0.5)]
    write_table(pd.DataFrame(rows, columns=["parameter", "step", "value"]), "parameters", tmp_path / "p.parquet")
    found = read_preconditioner(lagged, tmp_path / "p.parquet")
    assert found == Preconditioned((1.0, 2.0), (0.0, 0.5), 0.1, "published", lag=0)


def test_queries_put_an_element_without_a_past_behind_the_context():
    inputs = observations(3)[:, :-1]
    tokens = tokenise(inputs, "constructed")
    found = queries(inputs, "constructed")
    assert found.shape == (3, T - 2, T, 4 * N)
    for i in range(T - 2):
        torch.testing.assert_close(found[:, i, :-1], tokens[:, :-1])
        zero = torch.zeros(3, N).double()
        torch.testing.assert_close(found[:, i, -1], torch.cat([zero, inputs[:, i], inputs[:, i], zero], dim=-1))


def test_in_context_loss_of_a_gradient_step_is_that_of_its_matrix():
    """A layer with the weights of one gradient step: Phi is known, and so is its loss on the pairs of the context."""
    eta, eye, zero = 0.05, torch.eye(N), torch.zeros(N, N)
    model = Transformer(Model(("linear",), "constructed", 4 * N, n_heads=1, d_head=N, init_std=0.1), N)
    model.load_seeds([{
        "layers.0.W_K": torch.cat([zero, zero, zero, eye], 1)[None],
        "layers.0.W_Q": torch.cat([zero, zero, eye, zero], 1)[None],
        "layers.0.W_V": torch.cat([zero, zero, eye, zero], 1)[None],
        "layers.0.W_O": torch.cat([eta * eye, zero, zero, zero], 0)[None],
    }])  # fmt: skip
    data = observations(5)
    readout = torch.cat([eye, zero, zero, zero]).double()
    found = in_context_loss(model, data.float(), torch.stack([readout, readout]))
    losses = []
    for s in data:
        past, future = s[: T - 2], s[1 : T - 1]
        Phi = eta * future.mT @ past
        losses.append(0.5 * (future - past @ Phi.mT).square().sum(-1).mean())
    assert found[1].item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-6)
    # before the layer nothing is predicted
    assert found[0].item() == pytest.approx(0.5 * data[:, 1 : T - 1].square().sum(-1).mean().item(), rel=1e-6)


def test_the_in_context_loss_at_a_position_is_that_of_sequences_that_end_there():
    model, data = transformer("linear"), observations(6).float()
    readouts = torch.randn(3, T, 4 * N, N, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    table = in_context_table(model, data, readouts, positions=3)
    assert table["t"].unique().tolist() == [T - 3, T - 2, T - 1]
    for t in (T - 3, T - 1):
        expected = in_context_loss(model, data[:, : t + 2], readouts[:, t])
        np.testing.assert_allclose(table[table["t"] == t]["loss"], expected.numpy(), rtol=1e-12)
    assert set(in_context_table(model, data, readouts)["t"]) == {T - 1}


def test_raw_tokens_are_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(InputError, match="constructed tokens only"):
        probe_run(trained(tmp_path, "raw"), tmp_path / "absent.parquet", both(), in_context=True)
