"""Hand-written algorithms against naive forms: explicit matrices, one sequence and one position at a time, in float64."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from mesaopt.algorithms.gradient_descent import GradientDescent, line_search_eta
from mesaopt.algorithms.learned import from_parameters
from mesaopt.algorithms.least_squares import LeastSquares, exact_preconditioned_inputs, line_search_inverse_lam
from mesaopt.algorithms.preconditioning import Preconditioned, frobenius_norms, polynomial, power_predictions
from mesaopt.data.random import generator
from mesaopt.data.sequences import generate, inputs_targets
from mesaopt.errors import DivergenceError, InputError
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.run import Task
from mesaopt.stages.learn import learn_stage
from mesaopt.store.tables import read_table
from mesaopt.training.learning import Chebyshev, Descent, learn
from mesaopt.training.moments import moments

TASK = Task("linear", n_state=4, n_obs=4, context_length=9)
THEORY = Theory("linear/proposition2", TASK, "chebyshev", steps=40, lr=0.05, batch=32, n_steps=3, warmup=2, final_lr=1e-3)
DESCENT = Theory("contracting/gd1", Task("contracting", 4, 4, 9), "gd", steps=60, lr=0.02, batch=64, warmup=0, final_lr=1e-3)
ALPHAS, BETAS = (1.3, 2.9, 2.1), (0.4, 0.5, 0.2)
PREDICTORS = [
    GradientDescent(0.1, 0.3),
    LeastSquares(0.01),
    LeastSquares(0.01, lag=1),
    Preconditioned(ALPHAS, BETAS),
    Preconditioned(ALPHAS, BETAS, form="published", lag=1),
]


def observations(n: int = 5, seed: int = 0, task: Task = TASK) -> Tensor:
    return generate(task, n, generator(seed, "evaluation")).observations.double()


def pairs(inputs: Tensor, t: int, lag: int) -> tuple[Tensor, Tensor]:
    """S and its targets as columns: s_{t'} and s_{t'+1} for t' = 1..t-1-lag; `t` counts from 1."""
    count = max(t - 1 - lag, 0)
    return inputs[:count].T, inputs[1 : count + 1].T


def each_position(inputs: Tensor, predict) -> Tensor:
    """`predict(sequence, t)` for every sequence and t = 1..T."""
    return torch.stack([torch.stack([predict(s, t) for t in range(1, len(s) + 1)]) for s in inputs])


def assert_near(fast: Tensor, naive: Tensor, tolerance: float) -> None:
    assert (fast - naive).norm() <= tolerance * naive.norm()


def naive_gradient_descent(s: Tensor, t: int, eta: float, w_0: float) -> Tensor:
    phi = (w_0 * torch.eye(s.shape[1], dtype=s.dtype)).requires_grad_()
    keys, values = pairs(s, t, 0)
    (gradient,) = torch.autograd.grad(0.5 * (values - phi @ keys).square().sum(), phi)
    return (phi.detach() - eta * gradient) @ s[t - 1]


@pytest.mark.parametrize("w_0", [0.0, 0.3])
def test_gradient_descent(w_0: float) -> None:
    inputs = observations()[:, :-1]
    naive = each_position(inputs, lambda s, t: naive_gradient_descent(s, t, 0.07, w_0))
    assert_near(GradientDescent(0.07, w_0)(inputs), naive, 1e-12)


def naive_least_squares(s: Tensor, t: int, inverse_lam: float, lag: int) -> Tensor:
    """Ridge regression as ordinary least squares with sqrt(1/lambda) I as extra data."""
    keys, values = pairs(s, t, lag)
    n = s.shape[1]
    design = torch.cat((keys.T, inverse_lam**0.5 * torch.eye(n, dtype=s.dtype)))
    labels = torch.cat((values.T, torch.zeros(n, n, dtype=s.dtype)))
    return torch.linalg.lstsq(design, labels, driver="gelsd").solution.T @ s[t - 1]


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("inverse_lam", [1e-4, 0.5])
def test_least_squares(lag: int, inverse_lam: float) -> None:
    inputs = observations()[:, :-1]
    naive = each_position(inputs, lambda s, t: naive_least_squares(s, t, inverse_lam, lag))
    assert_near(LeastSquares(inverse_lam, lag)(inputs), naive, 1e-9)
    single = LeastSquares(inverse_lam, lag)(inputs.float())
    assert_near(single.double(), LeastSquares(inverse_lam, lag)(inputs.float().double()), 1e-6)


def test_least_squares_finds_a_system_without_noise() -> None:
    w = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    states = [torch.ones(4, dtype=torch.float64)]
    for _ in range(9):
        states.append(w @ states[-1])
    inputs, targets = inputs_targets(torch.stack(states)[None])
    errors = (LeastSquares(1e-10)(inputs) - targets).norm(dim=-1)[0]
    assert errors[5:].max() < 1e-5 and errors[0] > 1


def naive_system(s: Tensor, t: int, inverse_lam: float, lag: int) -> Tensor:
    keys, _ = pairs(s, t, lag)
    return keys @ keys.T + inverse_lam * torch.eye(s.shape[1], dtype=s.dtype)


def naive_preconditioned(s: Tensor, t: int, p: Preconditioned) -> Tensor:
    """The recursions of the paper on n_obs x n_obs matrices for the published form, on vectors for the textbook one."""
    system = naive_system(s, t, p.inverse_lam, p.lag)
    norm = torch.linalg.matrix_norm(system)
    a, eye, query = system / norm, torch.eye(len(system), dtype=s.dtype), s[t - 1]
    if p.form == "textbook":
        xs = [query, query]
        for alpha, beta in zip(p.alphas, p.betas, strict=True):
            xs.append(xs[-1] + alpha * (query - a @ xs[-1]) + beta * (xs[-1] - xs[-2]))
        return xs[-1] / norm
    product, xs = eye, [eye, eye]
    for alpha, beta in zip(p.alphas, p.betas, strict=True):
        product = product @ (eye - alpha * a)
        xs.append(xs[-1] + product + beta * (xs[-1] - xs[-2]))
    return xs[-1] / norm @ query


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("form", ["textbook", "published"])
def test_preconditioned(form: str, lag: int) -> None:
    inputs = observations()[:, :-1]
    predictor = Preconditioned(ALPHAS, BETAS, 0.003, form, lag)
    naive = each_position(inputs, lambda s, t: naive_preconditioned(s, t, predictor))
    assert_near(predictor.preconditioned_inputs(inputs), naive, 1e-11)

    def predict(s: Tensor, t: int) -> Tensor:
        keys, values = pairs(s, t, lag)
        return values @ keys.T @ naive_preconditioned(s, t, predictor)

    assert_near(predictor(inputs), each_position(inputs, predict), 1e-11)


def test_published_predictions_start_one_position_later() -> None:
    inputs = observations()[:, :-1]
    assert not Preconditioned(ALPHAS, BETAS, lag=1)(inputs)[:, :2].any()
    assert not Preconditioned(ALPHAS, BETAS)(inputs)[:, :1].any()
    assert Preconditioned(ALPHAS, BETAS)(inputs)[:, 1].any()


@pytest.mark.parametrize("lag", [0, 1])
def test_frobenius_norms(lag: int) -> None:
    inputs = observations()[:, :-1]
    naive = each_position(inputs, lambda s, t: torch.linalg.matrix_norm(naive_system(s, t, 0.02, lag))[None])
    assert_near(frobenius_norms(inputs, 0.02, lag), naive, 1e-12)


@pytest.mark.parametrize("lag", [0, 1])
def test_exact_preconditioned_inputs(lag: int) -> None:
    inputs = observations()[:, :-1]
    naive = each_position(inputs, lambda s, t: torch.linalg.inv(naive_system(s, t, 0.02, lag)) @ s[t - 1])
    assert_near(exact_preconditioned_inputs(inputs, 0.02, lag), naive, 1e-11)


@pytest.mark.parametrize("form", ["textbook", "published"])
def test_many_steps_of_preconditioning_reach_the_exact_inverse(form: str) -> None:
    inputs = observations()[:, :-1]
    # truncated Neumann series: alpha 1, beta 0; both forms are the same then
    predictor = Preconditioned((1.0,) * 400, (0.0,) * 400, inverse_lam=1.0, form=form)
    assert_near(predictor.preconditioned_inputs(inputs), exact_preconditioned_inputs(inputs, 1.0), 1e-9)


@pytest.mark.parametrize("predictor", PREDICTORS, ids=repr)
def test_predictors_are_causal_and_keep_the_dtype(predictor) -> None:
    inputs = observations()[:, :-1]
    before = predictor(inputs)
    assert before.shape == inputs.shape and predictor(inputs.float()).dtype == torch.float32 and before.dtype == torch.float64
    for t in range(1, inputs.shape[1]):
        changed = inputs.clone()
        changed[:, t] += 1
        after = predictor(changed)
        torch.testing.assert_close(after[:, :t], before[:, :t], rtol=1e-12, atol=1e-12)
        # the lagged predictors know no pair before the third position
        assert t < 2 or not torch.allclose(after[:, t], before[:, t])


def loss(predictor, x: Tensor) -> float:
    inputs, targets = inputs_targets(x)
    return 0.5 * (predictor(inputs) - targets).square().sum(-1).mean().item()


def test_line_searches_find_the_least_loss() -> None:
    x = observations(64)
    eta = line_search_eta(x)
    assert all(loss(GradientDescent(eta), x) < loss(GradientDescent(eta * factor), x) for factor in (0.5, 0.99, 1.01, 2))
    best = line_search_inverse_lam(x)
    values = np.geomspace(1e-4, 10, 40)
    assert best in values and loss(LeastSquares(best), x) == min(loss(LeastSquares(v), x) for v in values)
    with pytest.raises(InputError, match="line-searched"):
        line_search_eta(torch.zeros(2, 5, 3))


def test_learning_rate_of_gradient_descent_on_the_paper_s_task() -> None:
    x = generate(Task("linear"), 1024, generator(1, "evaluation")).observations
    eta = line_search_eta(x)
    assert 0.029 < eta < 0.036  # the paper's setting has 0.032
    assert 0.85 < loss(GradientDescent(eta), x) < 0.95


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("form", ["textbook", "published"])
def test_a_prediction_is_a_combination_of_those_from_powers_of_a(form: str, lag: int) -> None:
    inputs = observations()[:, :-1]
    coefficients = polynomial(form, torch.tensor(ALPHAS, dtype=torch.float64), torch.tensor(BETAS, dtype=torch.float64))
    basis = power_predictions(inputs, len(ALPHAS), 0.003, lag)
    combined = sum(c * d for c, d in zip(coefficients, basis, strict=True))
    assert_near(combined, Preconditioned(ALPHAS, BETAS, 0.003, form, lag)(inputs), 1e-12)


@pytest.mark.parametrize("form", ["textbook", "published"])
def test_learning_sees_the_loss_and_the_gradient_of_the_recursion(form: str) -> None:
    """Six steps at learned sizes, in float32 as in training, against differentiating through naive matrices in float64."""
    theory = dataclasses.replace(THEORY, task=Task("linear", context_length=8), n_steps=6, form=form)
    x = observations(6, task=theory.task)
    inputs, targets = inputs_targets(x)
    alphas = torch.tensor([1.0, 2.6, 3.4, 3.7, 3.0, 1.8]).double().requires_grad_()
    betas = torch.tensor([0.1, 0.5, 0.3, 0.8, 0.6, 0.4]).double().requires_grad_()
    naive = object.__new__(Preconditioned)  # holds tensors where numbers belong
    naive.__dict__.update(alphas=alphas, betas=betas, inverse_lam=theory.inverse_lam, form=form, lag=0)

    def predict(s: Tensor, t: int) -> Tensor:
        keys, values = pairs(s, t, 0)
        return values @ keys.T @ naive_preconditioned(s, t, naive)

    reference = 0.5 * (each_position(inputs, predict) - targets).square().sum(-1).mean()
    expected = torch.cat(torch.autograd.grad(reference, (alphas, betas), allow_unused=False))
    problem = Chebyshev(theory)
    value = moments(problem.basis, x.float()).loss(polynomial(form, alphas, betas))
    gradient = torch.cat(torch.autograd.grad(value, (alphas, betas)))
    assert abs(value.item() / reference.item() - 1) < 1e-5
    assert_near(gradient, expected, 1e-4)


def test_moments_give_the_loss_of_gradient_descent() -> None:
    x = observations(100, task=DESCENT.task)
    problem = Descent(DESCENT, seed=1)
    problem.parameters = {"eta": torch.tensor([0.07], dtype=torch.float64), "w_0": torch.tensor([0.4], dtype=torch.float64)}
    value = moments(problem.basis, x).loss(problem.coefficients()).item()
    assert value == pytest.approx(loss(GradientDescent(0.07, 0.4), x), rel=1e-10)


def test_learning_of_chebyshev_parameters_improves_the_predictor() -> None:
    frame, history = learn(THEORY, seed=1)
    assert len(frame) == 6 and len(history) == 40
    learned = from_parameters(THEORY, frame)
    x = observations(200, seed=9)
    assert loss(learned, x) < 0.95 * loss(Preconditioned((1.0,) * 3, (0.0,) * 3), x)
    assert learn(THEORY, seed=1)[0].equals(frame)
    assert not learn(THEORY, seed=2)[0].equals(frame)


def test_learning_of_gradient_descent() -> None:
    line_searched = from_parameters(DESCENT, learn(dataclasses.replace(DESCENT, form="published"), seed=1)[0])
    learned = from_parameters(DESCENT, learn(DESCENT, seed=1)[0])
    assert isinstance(line_searched, GradientDescent) and isinstance(learned, GradientDescent)
    assert line_searched.w_0 == 0
    # a contraction with positive eigenvalues is better guessed by a positive multiple of s_t than by zero
    assert learned.w_0 > 0.1
    x = observations(500, seed=9, task=DESCENT.task)
    assert loss(learned, x) < loss(line_searched, x)


def test_learning_that_diverges_is_stopped() -> None:
    with pytest.raises(DivergenceError, match=r"linear/proposition2 seed 3: loss .* at step \d+;"):
        learn(dataclasses.replace(THEORY, lr=1e60), seed=3)


def test_stage_writes_the_parameters(tmp_path, capsys) -> None:
    out = tmp_path / "parameters.parquet"
    theory = dataclasses.replace(THEORY, steps=5)
    learn_stage(theory, 1, out)
    frame = read_table(out, "parameters")
    assert from_parameters(theory, frame) == from_parameters(theory, learn(theory, 1)[0])
    assert capsys.readouterr().out.startswith("linear/proposition2 seed 1: loss")


def test_wrong_parameters_are_refused() -> None:
    frame, _ = learn(dataclasses.replace(THEORY, steps=1), seed=1)
    with pytest.raises(InputError, match="needs 1 x eta, 1 x w_0; the parameters are 3 x alpha, 3 x beta"):
        from_parameters(DESCENT, frame)
    with pytest.raises(InputError, match="needs 2 x alpha, 2 x beta; the parameters are 3 x alpha, 3 x beta"):
        from_parameters(dataclasses.replace(THEORY, n_steps=2), frame)
    with pytest.raises(InputError, match="unknown form"):
        Preconditioned(ALPHAS, BETAS, form="other")
    with pytest.raises(InputError, match="as many alphas as betas"):
        Preconditioned(ALPHAS, BETAS[:2])
    with pytest.raises(InputError, match="inverse_lam must be positive"):
        Preconditioned(ALPHAS, BETAS, inverse_lam=0.0)
    with pytest.raises(InputError, match="inverse_lam must be positive"):
        LeastSquares(0.0)(observations()[:, :-1])
    with pytest.raises(InputError, match="lag is for chebyshev"):
        learn(dataclasses.replace(DESCENT, lag=1), seed=1)
