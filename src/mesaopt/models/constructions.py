"""Weights set by hand that make linear self-attention compute Propositions 1 and 2 of the paper exactly.

A token is a row of blocks of n_obs channels, and every weight is a sum of multiples of the identity between blocks, so a layer
is written by saying which combination of blocks it asks with, compares with, adds up, and where it writes the sum.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer
from mesaopt.spec.run import Model

#: a combination of blocks: coefficient by block
Blocks = Mapping[int, float]


@dataclass(frozen=True)
class Construction:
    """A Transformer with hand-written weights (float64, named as in `Transformer`) and the tokens it reads; a predictor."""

    model: Model
    weights: Mapping[str, Tensor]
    tokens: Callable[[Tensor], Tensor]

    def __call__(self, inputs: Float[Tensor, "batch time n_obs"]) -> Float[Tensor, "batch time n_obs"]:
        with torch.no_grad():
            prediction: Tensor = self.transformer(inputs.shape[-1]).to(inputs)(self.tokens(inputs)[None])[0]
        return prediction

    def transformer(self, n_obs: int) -> Transformer:
        """The model itself, a pack of one in float64."""
        transformer = Transformer(self.model, n_obs).double()
        transformer.load_seeds([self.weights])
        return transformer


def proposition_1(eta: float, w_0: float, n_obs: int) -> Construction:
    """One layer that equals `GradientDescent(eta, w_0)`, on tokens (w_0 s_t, s_t, s_{t-1}).

    The pair (s_{t'-1}, s_{t'}) sits in one token, so the head adds up eta (s_{t'} - w_0 s_{t'-1}) s_{t'-1}^T s_t.
    """
    layer = _layer({1: 1.0}, {2: 1.0}, {1: eta, 2: -eta * w_0}, {0: 1.0}, 3, n_obs)

    def tokens(inputs: Tensor) -> Tensor:
        now, before = inputs, _before(inputs)
        return torch.cat([w_0 * now, now, before], dim=-1)

    return _construction([layer], 3, n_obs, tokens)


def proposition_2(alphas: Sequence[float], betas: Sequence[float], inverse_lam: float, n_obs: int) -> Construction:
    """K Richardson steps and one gradient step as K + 1 layers.

    x_{k+1} = x_k + alpha_k (s_t - A x_k) + beta_k (x_k - x_{k-1}) from x_0 = lam s_t, where A = S S^T + I/lam is not divided by
    its norm and S = (s_1 .. s_{t-1}); the prediction is sum_{t'<t} s_{t'+1} s_{t'}^T x_K.

    Tokens are (0, lam s_t, s_t, s_{t-1}, -lam s_t, 0), the last block only if some beta acts. Attention can add multiples of
    S S^T q to a block, but cannot rescale one, as the term x_k / lam asks. From x_0 = lam s_t on, all residuals are s_t - A x_k =
    S S^T z_k and all steps x_{k+1} - x_k = S S^T y_k with

        y_k = alpha_k z_k + beta_k y_{k-1},   z_{k+1} = z_k - y_k / lam - S S^T y_k,   z_0 = -lam s_t,   y_{-1} = 0,

    and rescaling is put off: (z_k, y_{k-1}) = C_k (last blocks), where C_k collects the pointwise part of the recursion. Raises
    `InputError` where that part cannot be undone: alpha_k = lam without betas, beta_k = 0 among others that are not.
    """
    if len(alphas) != len(betas) or inverse_lam <= 0:
        raise InputError("Proposition 2 needs as many alphas as betas and a positive inverse_lam")
    momentum = any(betas[1:])
    n_blocks, layers, do = 6 if momentum else 5, [], torch.eye(2 if momentum else 1, dtype=torch.float64)
    undo = do
    for k, (alpha, beta) in enumerate(zip(alphas, betas, strict=True)):
        # y_k in terms of the last blocks
        query = (torch.tensor([alpha, beta], dtype=torch.float64)[: len(do)] @ do).tolist()
        step = _pointwise(alpha, beta if k else 1.0, inverse_lam, momentum)
        if (beta if momentum and k else 1 - alpha * inverse_lam) == 0:
            raise InputError(f"step {k}: alpha {alpha}, beta {beta} cannot be written as attention weights")
        do, undo = step @ do, undo @ torch.linalg.inv(step)
        change = (-undo[:, 0]).tolist()
        layers.append(_layer(_from(4, query), {3: 1.0}, {3: 1.0}, {1: 1.0, **_from(4, change)}, n_blocks, n_obs))
    layers.append(_layer({1: 1.0}, {3: 1.0}, {2: 1.0}, {0: 1.0}, n_blocks, n_obs))

    def tokens(inputs: Tensor) -> Tensor:
        first, zero = inputs / inverse_lam, torch.zeros_like(inputs)
        return torch.cat([zero, first, inputs, _before(inputs), -first, zero][:n_blocks], dim=-1)

    return _construction(layers, n_blocks, n_obs, tokens)


def _pointwise(alpha: float, beta: float, inverse_lam: float, momentum: bool) -> Tensor:
    """(z_k, y_{k-1}) -> (z_k - y_k / lam, y_k)."""
    step = torch.tensor([[1 - alpha * inverse_lam, -beta * inverse_lam], [alpha, beta]], dtype=torch.float64)
    return step if momentum else step[:1, :1]


def _from(first: int, coefficients: Sequence[float]) -> Blocks:
    return {first + index: coefficient for index, coefficient in enumerate(coefficients)}


def _before(inputs: Tensor) -> Tensor:
    """s_{t-1}: the last block of a constructed token."""
    return tokenise(inputs, "constructed").chunk(4, dim=-1)[3]


def _layer(query: Blocks, key: Blocks, value: Blocks, write: Blocks, n_blocks: int, n_obs: int) -> dict[str, Tensor]:
    """One head that adds to the blocks in `write` the sum of value (key . query)."""
    reads = {name: _row(blocks, n_blocks, n_obs) for name, blocks in (("W_Q", query), ("W_K", key), ("W_V", value))}
    return {**reads, "W_O": _row(write, n_blocks, n_obs).mT}


def _row(blocks: Blocks, n_blocks: int, n_obs: int) -> Float[Tensor, "1 n_obs d_model"]:
    coefficients = torch.zeros(n_blocks, dtype=torch.float64)
    for block, coefficient in blocks.items():
        coefficients[block] = coefficient
    return torch.kron(coefficients, torch.eye(n_obs, dtype=torch.float64))[None]


def _construction(layers: Sequence[Mapping[str, Tensor]], n_blocks: int, n_obs: int, tokens: Callable) -> Construction:
    model = Model(
        layers=("linear",) * len(layers), tokens="constructed", d_model=n_blocks * n_obs, n_heads=1, d_head=n_obs, init_std=1.0
    )
    weights = {f"layers.{index}.{name}": tensor for index, layer in enumerate(layers) for name, tensor in layer.items()}
    return Construction(model, weights, tokens)
