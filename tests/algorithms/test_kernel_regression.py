"""Softmax kernel regression against a loop over pairs; its search; and the task without a bound."""

import dataclasses
import math

import pytest
import torch

from mesaopt.algorithms.kernel_regression import KernelRegression
from mesaopt.algorithms.learned import from_parameters
from mesaopt.data.random import generator
from mesaopt.data.sequences import generate, inputs_targets, training_batch
from mesaopt.errors import InputError
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.run import Task
from mesaopt.training.learning import learn

TASK = Task("unclipped", n_state=6, n_obs=6, context_length=24, state_noise=0.25)
THEORY = Theory("unclipped/kernel", TASK, "kernel", search_values=9, search_low=1e-3, search_high=4.0, search_sequences=32)


@pytest.mark.parametrize("beta", [0.0, 0.3, 4.0])
def test_predictions_against_a_loop_over_pairs(beta: float) -> None:
    """1e-12 in float64."""
    s = generate(TASK, 3, generator(1, "evaluation")).observations.double()[:, :-1]
    found = KernelRegression(beta)(s)
    for b in range(len(s)):
        for t in range(s.shape[1]):
            weights = [math.exp(beta * (s[b, j] @ s[b, t]).item()) for j in range(t)]
            naive = sum((w * s[b, j + 1] for j, w in enumerate(weights)), torch.zeros(6).double()) / (sum(weights) or 1.0)
            torch.testing.assert_close(found[b, t], naive, rtol=1e-12, atol=1e-12)


def test_large_scores_do_no_harm() -> None:
    s = 100 * torch.randn(2, 9, 3)
    predictions = KernelRegression(4.0)(s)
    assert predictions.isfinite().all() and (predictions[:, 0] == 0).all()
    assert torch.equal(predictions[:, 1], s[:, 1]), "one pair alone is copied"


def test_beta_is_the_best_on_sequences_of_its_own() -> None:
    frame, history = learn(THEORY, 1)
    assert history == [] and frame["parameter"].tolist() == ["inverse_temperature"]
    observations = training_batch(TASK, [1], 32, "theory_search", 0)[0].double()
    inputs, targets = inputs_targets(observations)
    grid = [1e-3 * 4000 ** (i / 8) for i in range(9)]
    losses = [(KernelRegression(beta)(inputs) - targets).square().sum().item() for beta in grid]
    assert frame["value"].item() == pytest.approx(grid[losses.index(min(losses))])
    assert from_parameters(THEORY, frame) == KernelRegression(frame["value"].item())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search_values": 0}, "kernel has no 1/lambda; its beta is searched, of at least 1 of search_values"),
        ({"fixed_inverse_lam": 1.0, "search_values": 0}, "its beta is searched"),
        ({"steps": 3}, "kernel learns nothing: no steps, no lr"),
        ({"lag": 1}, "kernel uses all pairs: no lag"),
        ({"input": "concatenated", "k": 2}, "kernel reads observations, not concatenated"),
        ({"search_sequences": 0}, "search_sequences must be at least 1, not 0"),
    ],
)
def test_what_cannot_be_is_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"unclipped/kernel: .*{message}"):
        dataclasses.replace(THEORY, **changes)


def test_states_have_no_bound() -> None:
    """The linear task clips at 10; s_{t+1} = W s_t + noise holds here without exception."""
    task = dataclasses.replace(TASK, state_noise=9.0)
    drawn = generate(task, 20, generator(1, "evaluation"))
    s, w = drawn.observations, drawn.systems["W"]
    assert s.abs().max() > 30
    noise = s[:, 1:] - torch.einsum("bij,btj->bti", w, s[:, :-1])
    assert noise.std().item() == pytest.approx(9.0, rel=0.05) and noise.abs().max() < 60
