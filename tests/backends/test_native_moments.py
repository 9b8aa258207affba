"""Moments of Proposition 2 by native code against a naive sum in float64, on all forms, and what learning makes of them."""

import dataclasses

import pytest
import torch
from torch import Tensor

from mesaopt.algorithms.preconditioning import power_predictions
from mesaopt.algorithms.reading import reading_of
from mesaopt.backends.native.moments import NativeMoments
from mesaopt.data.sequences import inputs_targets
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.run import Task
from mesaopt.training.learning import Chebyshev, Options, learn
from mesaopt.training.moments import CompiledBatches, DeviceBatches, PlainBatches, batches

pytestmark = pytest.mark.usefixtures("kernels")
LINEAR = Task("linear", n_state=10, n_obs=10, context_length=50)
PARTIAL = Task("partial", n_state=15, n_obs=5, context_length=50)
SMALL = Task("partial", n_state=4, n_obs=2, context_length=14)
NONLINEAR = Task("nonlinear", n_state=4, n_obs=4, context_length=9)
#: narrow inputs, wide ones, as wide as the values, a context shorter than a tile, sizes that no tile divides
FORMS = {
    "observations": (LINEAR, {}),
    "observations, lag 1": (LINEAR, {"lag": 1}),
    "partly observed": (PARTIAL, {"inverse_lam": 1.333}),
    "concatenated": (PARTIAL, {"input": "concatenated", "k": 16}),
    "concatenated, lag 1": (SMALL, {"input": "concatenated", "k": 3, "lag": 1}),
    "one more than the values": (dataclasses.replace(SMALL, context_length=3), {"input": "concatenated", "k": 2}),
    "features": (NONLINEAR, {"input": "features"}),
    "features, lag 1": (NONLINEAR, {"input": "features", "lag": 1}),
}


def theory(name: str, **changes: object) -> Theory:
    task, settings = FORMS[name]
    learning = {"algorithm": "chebyshev", "steps": 30, "lr": 0.05, "batch": 37, "n_steps": 6, "warmup": 2, "final_lr": 1e-3}
    return Theory.from_dict({"name": "a/p", "task": task.to_dict(), **learning, **settings, **changes})


def naive_sums(of: Theory, observations: Tensor) -> Tensor:
    reading = reading_of(of)
    inputs, targets = inputs_targets(observations.double())
    x, y = reading.inputs(inputs), reading.values(inputs)
    rows = torch.stack([*power_predictions(x, of.n_steps, of.inverse_lam, of.lag, y), targets]).flatten(1)
    return rows @ rows.mT


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Relative to the largest that the inequality of Cauchy and Schwarz allows."""
    sizes = expected.diagonal().sqrt()
    assert ((found - expected).abs() <= tolerance * sizes.outer(sizes)).all()


@pytest.mark.parametrize("size", [1, 16, 37])
@pytest.mark.parametrize("name", FORMS)
def test_sums_against_float64(name: str, size: int) -> None:
    of = dataclasses.replace(theory(name), batch=size)
    problem = Chebyshev(of)
    plain = PlainBatches(of, 1, problem.basis)(3)
    compiled = CompiledBatches(of, 1, problem.reading)
    observations = compiled.observations(3)
    found = compiled(3)
    expected = naive_sums(of, observations) / (size * of.task.context_length)
    assert_near(_matrix(found.quadratic, found.linear, found.square), expected, 5e-6)
    assert_near(_matrix(plain.quadratic, plain.linear, plain.square), expected, 2e-5)  # of other draws, up to their rounding


def _matrix(quadratic: Tensor, linear: Tensor, square: Tensor) -> Tensor:
    return torch.cat((torch.cat((quadratic, linear[None])), torch.cat((linear, square[None]))[:, None]), dim=1)


@pytest.mark.parametrize("form", ["textbook", "published"])
def test_loss_and_gradient_of_the_scalars_against_automatic_differentiation(form: str) -> None:
    """1e-9: powers of A nearly cancel."""
    of = theory("partly observed", form=form)
    problem = Chebyshev(of)
    compiled = CompiledBatches(of, 1, problem.reading)
    with torch.no_grad():
        problem.parameters["alpha"].copy_(torch.tensor([1.0, 2.6, 3.4, 3.7, 3.0, 1.8]))
        problem.parameters["beta"].copy_(torch.tensor([0.1, 0.5, 0.3, 0.8, 0.6, 0.4]))
    expected = compiled(5).loss(problem.coefficients())
    gradients = torch.cat(torch.autograd.grad(expected, list(problem.parameters.values())))
    for parameter in problem.parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    assert compiled.loss(5, **problem.parameters) == pytest.approx(expected.item(), rel=1e-9)
    found = torch.cat([parameter.grad for parameter in problem.parameters.values()])
    assert (found - gradients).abs().max() <= 1e-9 * gradients.abs().max()


def test_what_is_not_a_number_comes_through() -> None:
    for name in ("observations", "concatenated"):
        of = theory(name)
        compiled = CompiledBatches(of, 1, reading_of(of))
        observations = compiled.observations(0)
        observations[20, 7, 1] = torch.nan
        reading = reading_of(of)
        inputs = reading.inputs(inputs_targets(observations)[0]) if reading.k > 1 else None
        assert NativeMoments(of, of.task.n_obs * reading.k)(observations, inputs).isnan().any()


@pytest.mark.parametrize("name", ["observations", "concatenated", "features"])
def test_learning_is_the_same_whoever_sums(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Scalars within 1e-4 after 30 steps: Adam divides by small gradients. A GPU's way of it is tried on the CPU."""
    of = theory(name, n_steps=3)
    problem = Chebyshev(of)
    made = {kind: type(batches(of, 1, problem.basis, problem.reading, "cpu", kind)) for kind in ("auto", "torch")}
    assert made == {"auto": CompiledBatches, "torch": PlainBatches}
    assert batches(of, 1, problem.basis, None, "cpu", "auto").name == "torch"
    device = DeviceBatches(of, 1, problem.basis, "cpu")
    for step in (0, 17, 16, 40):
        one, other = device(step), PlainBatches(of, 1, problem.basis)(step)
        assert_near(_matrix(one.quadratic, one.linear, one.square), _matrix(other.quadratic, other.linear, other.square), 2e-5)
    frames = [learn(of, 1, options=options)[0]["value"] for options in (Options(backend="auto"), Options(backend="torch"))]
    torch.testing.assert_close(*(torch.tensor(frame.to_numpy()) for frame in frames), rtol=0, atol=1e-4)
    assert not capsys.readouterr().err


def test_without_a_compiler_pytorch_takes_over(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CXX", "nowhere-compiler")
    of = theory("features", n_steps=5)  # that no test has compiled before
    learn(of, 1, options=Options(backend="auto"))
    assert capsys.readouterr().err.startswith("mesaopt: a/p: PyTorch takes over: no C++ compiler")
