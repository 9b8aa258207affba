"""Predictors, trained or hand-written, and their loss by position.

A predictor maps inputs (batch, time, n_obs) to predictions of the next observation at every position, of the same shape. Loss
is half the squared error summed over channels, mean over sequences: the unit of all losses in this project.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.data.sequences import inputs_targets
from mesaopt.data.tokens import tokenise
from mesaopt.models.transformer import Transformer

Predictor = Callable[[Tensor], Tensor]


def loss_by_position(
    predictor: Predictor, observations: Float[Tensor, "batch time_plus_1 n_obs"], chunk: int = 64
) -> Float[Tensor, "time"]:
    """Mean loss at each t = 1..T in float64; `chunk` sequences at a time, so memory does not grow with their number."""
    batch, elements, _ = observations.shape
    total = torch.zeros(elements - 1, dtype=torch.float64, device=observations.device)
    for part in observations.split(chunk):
        inputs, targets = inputs_targets(part)
        total += (predictor(inputs) - targets).double().square().sum(dim=(0, 2))
    return (total / (2 * batch)).cpu()


def losses(
    predictor: Predictor, observations: Float[Tensor, "batch time_plus_1 n_obs"], chunk: int = 64
) -> Float[Tensor, "batch time"]:
    """The loss of every sequence at each t in float64, on the CPU: 8 bytes a position, whatever a chunk's activations take."""
    parts = []
    for part in observations.split(chunk):
        inputs, targets = inputs_targets(part)
        parts.append((predictor(inputs) - targets).double().square().sum(dim=2).cpu() / 2)
    return torch.cat(parts)


def model_predictor(model: Transformer) -> Predictor:
    """A trained model (a pack of one) as a predictor: tokenises its inputs, computes no gradients."""

    def predict(inputs: Float[Tensor, "batch time n_obs"]) -> Float[Tensor, "batch time n_obs"]:
        with torch.no_grad():
            return model(tokenise(inputs, model.model.tokens)[None])[0]

    return predict
