"""Hand-written algorithms that read concatenated observations or features: against naive loops, and where the answer is known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from mesaopt.algorithms import least_squares, preconditioning
from mesaopt.algorithms.learned import from_parameters
from mesaopt.algorithms.least_squares import LeastSquares, exact_preconditioned_inputs
from mesaopt.algorithms.preconditioning import Preconditioned, frobenius_norms, power_predictions
from mesaopt.algorithms.reading import PLAIN, Reading, reading_of
from mesaopt.data.random import generator
from mesaopt.data.sequences import generate, inputs_targets, training_batch
from mesaopt.data.tasks.nonlinear import features
from mesaopt.errors import InputError
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.run import Task
from mesaopt.stages.learn import learn_stage
from mesaopt.store.tables import read_table, write_table
from mesaopt.training.learning import Chebyshev, learn
from mesaopt.training.moments import moments

PARTIAL = Task("partial", n_state=6, n_obs=2, context_length=14)
NONLINEAR = Task("nonlinear", n_state=4, n_obs=4, context_length=14)
ALPHAS, BETAS = (1.3, 2.9, 2.1), (0.4, 0.5, 0.2)
READINGS = {
    "observations": (PARTIAL, PLAIN),
    "concatenated": (PARTIAL, Reading(3)),
    "all": (PARTIAL, Reading(14)),
    "features": (NONLINEAR, Reading(features=features)),
}
SETTINGS = {"algorithm": "chebyshev", "steps": 40, "lr": 0.05, "batch": 32, "n_steps": 3, "warmup": 2, "final_lr": 1e-3}


def theory(task: Task, **changes: object) -> Theory:
    return Theory.from_dict({"name": f"{task.name}/p", "task": task.to_dict(), **SETTINGS, **changes})


def observations(task: Task, n: int = 4) -> Tensor:
    return generate(task, n, generator(0, "evaluation")).observations.double()


def naive_input(s: Tensor, t: int, reading: Reading) -> Tensor:
    """What is read at position t = 1..T of one sequence, channel by channel."""
    if reading.features is not None:
        f = reading.features(s[t - 1], False)
        return f / f.square().sum().sqrt()
    return torch.cat([s[t - 1 - by] if t - 1 - by >= 0 else torch.zeros_like(s[0]) for by in range(reading.k)])


def naive_predictions(inputs: Tensor, reading: Reading, lag: int, inverse) -> Tensor:
    """Pair by pair, with whole z_{t'+1} as values of concatenated inputs, of whose prediction the first channels are taken.
    `inverse(system)` stands for the inverse of S S^T.
    """
    out = torch.zeros_like(inputs)
    for b, s in enumerate(inputs):
        read = {t: naive_input(s, t, reading) for t in range(1, len(s) + 1)}
        for t in range(1, len(s) + 1):
            width = len(read[t])
            system, cross = torch.zeros(width, width).double(), torch.zeros(width, width).double()
            for before in range(1, t - lag):
                value = torch.zeros(width).double()
                following = read[before + 1] if reading.features is None else s[before] / s[before].norm()
                value[: len(following)] = following
                system += torch.outer(read[before], read[before])
                cross += torch.outer(value, read[before])
            out[b, t - 1] = (cross @ inverse(system) @ read[t])[: s.shape[1]]
    return out


def naive_polynomial(system: Tensor, form: str, inverse_lam: float) -> Tensor:
    eye = torch.eye(len(system)).double()
    a = system + inverse_lam * eye
    norm = a.square().sum().sqrt()
    a = a / norm
    xs, residual = [eye, eye], eye
    for alpha, beta in zip(ALPHAS, BETAS, strict=True):
        residual = eye - a @ xs[-1] if form == "textbook" else residual @ (eye - alpha * a)
        change = alpha * residual if form == "textbook" else residual
        xs.append(xs[-1] + change + beta * (xs[-1] - xs[-2]))
    return xs[-1] / norm


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("form", ["textbook", "published"])
@pytest.mark.parametrize("name", READINGS)
def test_proposition2_on_any_input(name: str, form: str, lag: int) -> None:
    task, reading = READINGS[name]
    inputs, _ = inputs_targets(observations(task))
    predictor = Preconditioned(ALPHAS, BETAS, 0.02, form, lag, reading)
    naive = naive_predictions(inputs, reading, lag, lambda system: naive_polynomial(system, form, 0.02))
    torch.testing.assert_close(predictor(inputs), naive, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("name", READINGS)
def test_least_squares_on_any_input(name: str, lag: int) -> None:
    task, reading = READINGS[name]
    inputs, _ = inputs_targets(observations(task))

    def inverse(system: Tensor) -> Tensor:
        return torch.linalg.inv(system + 0.02 * torch.eye(len(system)).double())

    naive = naive_predictions(inputs, reading, lag, inverse)
    torch.testing.assert_close(LeastSquares(0.02, lag, reading)(inputs), naive, rtol=1e-8, atol=1e-9)


def test_one_observation_is_the_plain_input_and_features_may_be_the_states() -> None:
    inputs, _ = inputs_targets(observations(NONLINEAR))
    assert torch.equal(Reading(1).inputs(inputs), inputs) and torch.equal(Reading(1).values(inputs), inputs)
    on_the_sphere = inputs / inputs.norm(dim=-1, keepdim=True)
    identity = Reading(features=lambda states, normalised: states)
    for plain in (Preconditioned(ALPHAS, BETAS), LeastSquares(0.1)):
        same = dataclasses.replace(plain, reading=identity)
        torch.testing.assert_close(same(on_the_sphere), plain(on_the_sphere), rtol=1e-12, atol=1e-13)
        assert not torch.allclose(same(inputs), plain(inputs), rtol=1e-3)


@pytest.mark.parametrize("name", READINGS)
def test_nothing_is_read_of_later_elements(name: str) -> None:
    task, reading = READINGS[name]
    inputs, _ = inputs_targets(observations(task))
    predictor = Preconditioned(ALPHAS, BETAS, reading=reading)
    before = predictor(inputs)
    for t in range(1, inputs.shape[1]):
        changed = inputs.clone()
        changed[:, t] += 1
        assert torch.equal(predictor(changed)[:, :t], before[:, :t])
        assert not torch.allclose(predictor(changed)[:, t], before[:, t])


def test_the_preconditioner_of_a_reading() -> None:
    """What probes look for: the inverse, applied to what is read, as wide as that."""
    inputs, _ = inputs_targets(observations(PARTIAL))
    many = Preconditioned((1.0,) * 3000, (0.0,) * 3000, inverse_lam=1.0, reading=Reading(3))
    z = many.reading.inputs(inputs)
    assert z.shape == (4, 14, 6)
    torch.testing.assert_close(many.preconditioned_inputs(z), exact_preconditioned_inputs(z, 1.0), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize(("inverse_lam", "tolerance"), [(1e-3, 1e-10), (10.0, 1e-12)])
def test_exact_inverses_by_channels_and_by_pairs_are_the_same(inverse_lam: float, tolerance: float, lag: int) -> None:
    """Also where inputs are narrow, which is never asked; relative to the largest entry."""
    for width in (2, 7, 20):
        inputs = torch.randn(5, 9, width, dtype=torch.float64, generator=torch.Generator().manual_seed(width))
        found, expected = (
            solve(inputs, inverse_lam, lag) for solve in (least_squares._solve_by_pairs, least_squares._solve_by_channels)
        )
        assert (found - expected).abs().max() <= tolerance * expected.abs().max()
    wide = exact_preconditioned_inputs(inputs.float(), inverse_lam, lag)
    torch.testing.assert_close(wide, expected.float(), rtol=1e-4, atol=1e-4 / inverse_lam)


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize(("width", "time"), [(2, 9), (4, 9), (11, 9), (3, 3)])
def test_powers_by_vectors_and_by_scores_are_the_same(width: int, time: int, lag: int) -> None:
    """Against powers of explicit matrices too; 1e-12 of the largest value."""
    rng = torch.Generator().manual_seed(width)
    inputs, values = (torch.randn(3, time, size, dtype=torch.float64, generator=rng) for size in (width, 2))
    norms = frobenius_norms(inputs, 0.3, lag)
    naive = torch.zeros(5, 3, time, 2).double()
    for b in range(3):
        for t in range(time):
            count = max(t - lag, 0)
            keys, following = inputs[b, :count].T, values[b, 1 : count + 1].T
            system = keys @ keys.T + 0.3 * torch.eye(width).double()
            x = inputs[b, t] / norms[b, t]
            for power in range(5):
                naive[power, b, t] = following @ keys.T @ x
                x = system @ x / norms[b, t]
    for by in (preconditioning._by_vectors, preconditioning._by_scores):
        found = torch.stack([*by(inputs, values, norms, 4, 0.3, lag)])
        assert (found - naive).abs().max() <= 1e-12 * naive.abs().max(), by.__name__
    chosen = torch.stack([*power_predictions(inputs, 4, 0.3, lag, values)])
    assert (chosen - naive).abs().max() <= 1e-12 * naive.abs().max()


@pytest.mark.parametrize("name", READINGS)
def test_learning_sees_the_loss_of_the_predictor(name: str) -> None:
    """In float32, as when learning, against the predictor in float64: relative 1e-5."""
    task, reading = READINGS[name]
    settings = {"concatenated": {"k": 3}, "all": {"input": "concatenated", "k": 14}}.get(name, {})
    problem = Chebyshev(theory(task, **{"input": name, **settings}))
    x = observations(task, 70)
    inputs, targets = inputs_targets(x)
    expected = (Preconditioned((1.0,) * 3, (0.0,) * 3, reading=reading)(inputs) - targets).square().sum(-1).mean() / 2
    assert moments(problem.basis, x.float()).loss(problem.coefficients()).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_system_seen_in_part_is_linear_in_enough_observations() -> None:
    """Without noise, 6 states and 2 channels: in three of them, and not in two. The first pairs, with zeros for what came before,
    are not; six observations leave least squares room for these, three do not.
    """
    quiet = dataclasses.replace(PARTIAL, context_length=40, state_noise=0.0, obs_noise=0.0)
    inputs, targets = inputs_targets(observations(quiet, 20))
    residuals = {}
    for k in (2, 3):
        z = Reading(k).inputs(inputs)[:, k - 1 :]
        fitted = torch.linalg.lstsq(z, targets[:, k - 1 :], driver="gelsd").solution
        residuals[k] = (z @ fitted - targets[:, k - 1 :]).square().mean().item()
    assert residuals[3] < 1e-10 and residuals[2] > 1e-2
    errors = {k: (LeastSquares(1e-9, reading=Reading(k))(inputs) - targets)[:, 30:].square().mean().item() for k in (2, 3, 6)}
    assert errors[6] < 1e-8 and errors[2] > 3 * errors[3] > 1e-3


def test_a_nonlinear_system_is_found_from_its_features() -> None:
    quiet = dataclasses.replace(NONLINEAR, context_length=40, state_noise=0.0)
    inputs, targets = inputs_targets(observations(quiet, 20))
    raw, known = (LeastSquares(1e-9, reading=of)(inputs) - targets for of in (PLAIN, Reading(features=features)))
    assert known[:, 10:].square().mean() < 1e-8 and raw[:, 10:].square().mean() > 1e-3


def test_learning_and_then_searching() -> None:
    """1/lambda is that of least loss in the grid, on sequences that no learning sees, and is kept with alpha and beta."""
    of = theory(PARTIAL, input="concatenated", k=3, search_values=5, search_low=0.01, search_high=100.0)
    frame, history = learn(of, seed=1)
    plain, _ = learn(dataclasses.replace(of, search_values=0), seed=1)
    assert len(history) == 40 and frame[frame["parameter"] != "inverse_lam"].equals(plain)
    inputs, targets = inputs_targets(training_batch(PARTIAL, [1], 512, "theory_search", 0)[0].double())
    alphas, betas = (tuple(plain[plain["parameter"] == name]["value"]) for name in ("alpha", "beta"))
    losses = {
        lam: (Preconditioned(alphas, betas, lam, reading=Reading(3))(inputs) - targets).square().sum().item()
        for lam in np.geomspace(0.01, 100, 5)
    }
    (found,) = frame[frame["parameter"] == "inverse_lam"]["value"]
    assert found == min(losses, key=losses.__getitem__) and found != 0.001
    assert from_parameters(of, frame) == Preconditioned(alphas, betas, found, reading=Reading(3))
    fixed = dataclasses.replace(of, search_values=0, fixed_inverse_lam=7.0)
    assert from_parameters(fixed, plain) == Preconditioned(alphas, betas, 7.0, reading=Reading(3))
    with pytest.raises(InputError, match="needs 3 x alpha, 3 x beta, 1 x inverse_lam; the parameters are 3 x alpha, 3 x beta"):
        from_parameters(of, plain)


@pytest.mark.parametrize(("task", "settings"), [(PARTIAL, {"input": "concatenated", "k": 4}), (NONLINEAR, {"input": "features"})])
def test_learning_improves_on_where_it_begins(task: Task, settings: dict[str, object]) -> None:
    task = dataclasses.replace(task, context_length=40)
    of = theory(task, **settings)
    learned, begins = from_parameters(of, learn(of, seed=1)[0]), Preconditioned((1.0,) * 3, (0.0,) * 3, reading=reading_of(of))
    inputs, targets = inputs_targets(generate(task, 500, generator(9, "evaluation")).observations)
    after, before = ((predict(inputs) - targets).square().sum().item() for predict in (learned, begins))
    assert after < 0.97 * before


def test_least_squares_as_an_algorithm() -> None:
    plain = Theory("partial/lsq", PARTIAL, "lsq", input="concatenated", k=3, inverse_lam=0.5)
    frame, history = learn(plain, seed=1)
    assert not history and frame.to_dict("list") == {"parameter": ["inverse_lam"], "step": [0], "value": [0.5]}
    assert from_parameters(plain, frame) == LeastSquares(0.5, reading=Reading(3))
    searched = from_parameters(plain, learn(dataclasses.replace(plain, search_values=4), seed=1)[0])
    assert isinstance(searched, LeastSquares) and searched.inverse_lam in np.geomspace(0.001, 10, 4)


def test_scalars_of_another_algorithm(tmp_path, capsys) -> None:
    """Alpha and beta are the other's, its 1/lambda is not; 1/lambda may be searched on the own input."""
    other = theory(PARTIAL, input="concatenated", k=3, search_values=2)
    given = learn(other, seed=1)[0]
    of = theory(PARTIAL, scalars=other.name, steps=0, lr=0)
    write_table(given, "parameters", tmp_path / "given.parquet")
    learn_stage(of, 1, tmp_path / "out.parquet", tmp_path / "given.parquet")
    assert "no descent" in capsys.readouterr().out
    frame = read_table(tmp_path / "out.parquet", "parameters")
    expected = given[given["parameter"] != "inverse_lam"]
    pd.testing.assert_frame_equal(frame.reset_index(drop=True), expected.reset_index(drop=True), check_dtype=False)
    predictor = from_parameters(of, frame)
    assert isinstance(predictor, Preconditioned) and predictor.inverse_lam == 0.001 and predictor.reading == PLAIN
    searched = learn(dataclasses.replace(of, search_values=3), 1, given)[0]
    assert set(searched["parameter"]) == {"alpha", "beta", "inverse_lam"}
    with pytest.raises(InputError, match="partial/p: takes alpha and beta of partial/p, whose table must be given"):
        learn(of, 1)
    with pytest.raises(InputError, match="partial/p: a table of scalars must not be given"):
        learn(other, 1, given)
    with pytest.raises(InputError, match="needs 2 x alpha, 2 x beta; the parameters are 3 x alpha, 3 x beta"):
        learn(dataclasses.replace(of, n_steps=2), 1, given)


def test_features_that_a_task_lacks_are_refused() -> None:
    with pytest.raises(InputError, match="partial/p: input features: task kind partial has no features"):
        learn(theory(PARTIAL, input="features"), 1)
