"""Proposition 2: improve the conditioning of the query by K steps of second-order Richardson (Chebyshev) iteration, then one
gradient step: predict sum_{t'<t} s_{t'+1} s_{t'}^T x_K, where x_K approximates (S S^T + I/lambda)^-1 s_t.

A = (S S^T + I/lambda) / ||S S^T + I/lambda||_F, and the result is divided by that norm too. Two recursions:

    textbook    x_0 = s_t, x_{k+1} = x_k + alpha_k (s_t - A x_k) + beta_k (x_k - x_{k-1})
    published   x_0 = r_0 = s_t, r_{k+1} = r_k - alpha_k A r_k, x_{k+1} = x_k + r_{k+1} + beta_k (x_k - x_{k-1})

The second is what stands behind the published curves, together with `lag` 1. Both are polynomials in A applied to s_t. Where an
algorithm reads something else than s_t (`reading`), that stands in its place, and its values in that of s_{t'+1}.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.algorithms.pairs import regress, scores
from mesaopt.algorithms.reading import PLAIN, Reading
from mesaopt.data.tokens import delayed
from mesaopt.errors import InputError
from mesaopt.spec.algorithm import FORMS


def iterate(form: str, steps: Iterable[tuple[Any, Any]], apply: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """x_K of the recursions above for the pairs (alpha_k, beta_k) in `steps`; `apply` multiplies by A."""
    x = previous = residual = start
    for alpha, beta in steps:
        if form == "textbook":
            residual = start - apply(x)
            change = alpha * residual
        else:
            residual = residual - alpha * apply(residual)
            change = residual
        x, previous = x + change + beta * (x - previous), x
    return x


def frobenius_norms(inputs: Float[Tensor, "*batch time width"], inverse_lam: float, lag: int) -> Float[Tensor, "*batch time 1"]:
    """||S S^T + I/lambda||_F at every t, from the Gram matrix: ||S S^T||_F = ||S^T S||_F and tr S S^T = tr S^T S."""
    keys = delayed(inputs, 1 + lag)
    gram = keys @ keys.mT
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    # the pair that is new at t adds a row, a column and the diagonal element that they share
    new = 2 * gram.square().tril_(-1).sum(-1) + diagonal.square()
    squares = new.cumsum(-1) + 2 * inverse_lam * diagonal.cumsum(-1) + inputs.shape[-1] * inverse_lam**2
    return squares.sqrt().unsqueeze(-1)


@dataclass(frozen=True)
class Preconditioned:
    """The predictor of Proposition 2 with K = len(alphas) steps of preconditioning.

    Raises `InputError` for another form, unequal numbers of alphas and betas, or inverse_lam <= 0.
    """

    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    inverse_lam: float = 0.001
    form: str = "textbook"
    lag: int = 0
    reading: Reading = PLAIN

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise InputError(f"unknown form {self.form!r}: one of {', '.join(FORMS)}")
        if len(self.alphas) != len(self.betas):
            raise InputError(f"as many alphas as betas are needed, not {len(self.alphas)} and {len(self.betas)}")
        if self.inverse_lam <= 0:
            raise InputError(f"inverse_lam must be positive, not {self.inverse_lam}")

    def preconditioned_inputs(self, inputs: Float[Tensor, "*batch time width"]) -> Float[Tensor, "*batch time width"]:
        """x_K, the approximation of (S S^T + I/lambda)^-1 x_t, the columns of S being inputs such as `reading.inputs` gives."""
        norms = frobenius_norms(inputs, self.inverse_lam, self.lag)
        keys = delayed(inputs, 1)

        def apply(x: Tensor) -> Tensor:
            return (scores(x, inputs, self.lag) @ keys + self.inverse_lam * x) / norms

        return iterate(self.form, zip(self.alphas, self.betas, strict=True), apply, inputs) / norms

    def __call__(self, observations: Float[Tensor, "batch time n_obs"]) -> Float[Tensor, "batch time n_obs"]:
        inputs, values = self.reading.inputs(observations), self.reading.values(observations)
        return regress(self.preconditioned_inputs(inputs), inputs, self.lag, values)


def power_predictions(
    inputs: Float[Tensor, "batch time width"],
    degree: int,
    inverse_lam: float,
    lag: int,
    values: Float[Tensor, "batch time n_obs"] | None = None,
) -> Iterator[Float[Tensor, "batch time n_obs"]]:
    """The predictions that A^0 x_t, ..., A^degree x_t, each divided by the norm, lead to in place of x_K; without `values` they
    are the inputs.

    Those of `Preconditioned` are their linear combination with the coefficients that `polynomial` gives.
    """
    values = inputs if values is None else values
    norms = frobenius_norms(inputs, inverse_lam, lag)
    by = _by_scores if inputs.shape[-1] > values.shape[-1] else _by_vectors
    return by(inputs, values, norms, degree, inverse_lam, lag)


def _by_vectors(
    inputs: Tensor, values: Tensor, norms: Tensor, degree: int, inverse_lam: float, lag: int
) -> Iterator[Float[Tensor, "batch time n_obs"]]:
    """For inputs as wide as the values: the powers applied to x_t are vectors."""
    width = inputs.shape[-1]
    keys_values = torch.cat((delayed(inputs, 1), values), dim=-1)
    x = inputs / norms
    for power in range(degree + 1):
        sums = scores(x, inputs, lag) @ keys_values  # S S^T x, and the prediction from x
        yield sums[..., width:]
        if power < degree:
            x = (sums[..., :width] + inverse_lam * x) / norms


def _by_scores(
    inputs: Tensor, values: Tensor, norms: Tensor, degree: int, inverse_lam: float, lag: int
) -> Iterator[Float[Tensor, "batch time n_obs"]]:
    """For wide inputs: of the powers applied to x_t only the products with the visible keys are kept, as many as positions.

    Positions are columns: products of a narrow matrix and a square one are several times faster that way round.
    """
    products = delayed(inputs @ inputs.mT, 1)  # of keys (rows) with inputs
    gram = delayed(products.mT, 1)  # of keys with keys
    visible = gram.new_ones(gram.shape[-2:]).triu_(lag) / norms.mT
    products.mul_(visible)
    gram.diagonal(dim1=-2, dim2=-1).add_(inverse_lam)
    for power in range(degree + 1):
        yield (values.mT @ products).mT
        if power < degree:
            products = (gram @ products).mul_(visible)


def polynomial(form: str, alphas: Float[Tensor, " k"], betas: Float[Tensor, " k"]) -> Float[Tensor, " k_plus_1"]:
    """Coefficients of x_K as a polynomial in A: the same recursion on coefficient vectors, where A shifts by one."""
    start = torch.zeros(len(alphas) + 1, dtype=alphas.dtype)
    start[0] = 1
    return iterate(form, zip(alphas, betas, strict=True), lambda c: torch.cat((c.new_zeros(1), c[:-1])), start)
