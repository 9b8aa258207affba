"""Hand-written weights compute what Propositions 1 and 2 state, to rounding."""

import pytest
import torch

from mesaopt.algorithms.gradient_descent import GradientDescent
from mesaopt.errors import InputError
from mesaopt.models.constructions import proposition_1, proposition_2


def sequences(batch=3, time=12, n_obs=4, scale=0.5):
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(batch, time, n_obs, dtype=torch.float64, generator=generator)


def gradient_step(inputs, eta, w_0):
    """(Phi_0 - eta grad L_t(Phi_0)) s_t by automatic differentiation of the mesa-objective."""
    out = torch.zeros_like(inputs)
    for sequence, s in enumerate(inputs):
        for t in range(len(s)):
            phi = (w_0 * torch.eye(s.shape[1], dtype=s.dtype)).requires_grad_()
            objective = 0.5 * (s[1 : t + 1] - s[:t] @ phi.T).square().sum()
            (slope,) = torch.autograd.grad(objective, phi)
            out[sequence, t] = ((phi - eta * slope) @ s[t]).detach()
    return out


def richardson(inputs, alphas, betas, inverse_lam):
    """Proposition 2 without the norm, from x_0 = lam s_t, with the matrices formed."""
    out = torch.zeros_like(inputs)
    for sequence, s in enumerate(inputs):
        for t in range(len(s)):
            past, following = s[:t], s[1 : t + 1]
            A = past.T @ past + inverse_lam * torch.eye(s.shape[1], dtype=s.dtype)
            x = previous = s[t] / inverse_lam
            for alpha, beta in zip(alphas, betas, strict=True):
                x, previous = x + alpha * (s[t] - A @ x) + beta * (x - previous), x
            out[sequence, t] = following.T @ (past @ x)
    return out


@pytest.mark.parametrize("w_0", [0.0, 0.7, -1.3])
def test_one_layer_is_a_gradient_step(w_0):
    inputs = sequences()
    model = proposition_1(0.03, w_0, 4)
    assert model.model.layers == ("linear",)
    torch.testing.assert_close(model(inputs), GradientDescent(0.03, w_0)(inputs), rtol=0, atol=1e-10)
    torch.testing.assert_close(model(inputs), gradient_step(inputs, 0.03, w_0), rtol=0, atol=1e-10)


def test_products_of_proposition_1_are_those_of_the_paper():
    weights = proposition_1(0.03, 0.7, 2).weights
    QK = weights["layers.0.W_K"][0].T @ weights["layers.0.W_Q"][0]
    OV = weights["layers.0.W_O"][0] @ weights["layers.0.W_V"][0]
    eye, zero = torch.eye(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    nothing = [zero, zero, zero]
    rows = {"QK": [nothing, nothing, [zero, eye, zero]], "OV": [[zero, 0.03 * eye, -0.03 * 0.7 * eye], nothing, nothing]}
    for product, name in ((QK, "QK"), (OV, "OV")):
        torch.testing.assert_close(product, torch.cat([torch.cat(row, 1) for row in rows[name]]), rtol=1e-15, atol=0)


@pytest.mark.parametrize(
    ("alphas", "betas", "blocks"),
    [
        ((), (), 5),
        ((0.1,), (0.0,), 5),
        ((0.1, 0.2, 0.15), (0.4, 0.0, 0.0), 5),
        ((0.1, 0.2, 0.15, 0.07, 0.3), (0.0, 0.3, 0.2, -0.1, 0.25), 6),
    ],
)
def test_k_layers_are_richardson_steps_and_a_gradient_step(alphas, betas, blocks):
    inputs = sequences()
    model = proposition_2(alphas, betas, 0.5, 4)
    assert (len(model.model.layers), model.model.d_model) == (len(alphas) + 1, 4 * blocks)
    expected = richardson(inputs, alphas, betas, 0.5)
    assert expected.abs().max() > 1
    torch.testing.assert_close(model(inputs), expected, rtol=0, atol=1e-10)


def test_more_steps_come_closer_to_regularised_least_squares():
    s, inverse_lam = sequences(batch=1, time=8)[0], 0.5
    A = s[:7].T @ s[:7] + inverse_lam * torch.eye(4, dtype=torch.float64)
    exact = s[1:].T @ s[:7] @ torch.linalg.solve(A, s[7])
    models = [proposition_2((0.3,) * steps, (0.0, *(0.1,) * 12)[:steps], inverse_lam, 4) for steps in (0, 3, 6, 12)]
    distances = [(model(s[None])[0, 7] - exact).norm().item() for model in models]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.05 * distances[0]


def test_steps_that_attention_cannot_undo_are_refused():
    with pytest.raises(InputError, match=r"step 1: alpha 2\.0"):
        proposition_2((0.1, 2.0), (0.0, 0.0), 0.5, 4)
    with pytest.raises(InputError, match=r"beta 0\.0 cannot be written"):
        proposition_2((0.1, 0.2, 0.1), (0.0, 0.3, 0.0), 0.5, 4)
    with pytest.raises(InputError, match="as many alphas as betas"):
        proposition_2((0.1,), (), 0.5, 4)
