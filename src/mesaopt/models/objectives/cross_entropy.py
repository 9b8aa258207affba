"""Objective `cross_entropy`: predict the next token of a text; the negative logarithm of its probability, in nats."""

import torch
from jaxtyping import Float, Integer, Shaped
from torch import Tensor

from mesaopt.errors import InputError


def examples(
    model: object, observations: Shaped[Tensor, "*pack batch time_plus_1"]
) -> tuple[Integer[Tensor, "*pack batch time"], Integer[Tensor, "*pack batch time"]]:
    """What the model reads, and what it shall predict at every position. Raises `InputError` for what are no tokens."""
    if observations.is_floating_point():
        raise InputError("objective cross_entropy is for tokens of a text; systems have squared_error")
    return observations[..., :-1], observations[..., 1:]


def total_loss(
    predictions: Float[Tensor, "*pack batch time vocabulary"], targets: Integer[Tensor, "*pack batch time"]
) -> Float[Tensor, "*pack"]:
    """Summed over all positions of all sequences."""
    return losses(predictions, targets).sum((-1, -2))


def losses(
    predictions: Float[Tensor, "*pack batch time vocabulary"], targets: Integer[Tensor, "*pack batch time"]
) -> Float[Tensor, "*pack batch time"]:
    """At every position; in float32 or better."""
    flat = predictions.flatten(0, -2)
    full = flat.to(torch.promote_types(flat.dtype, torch.float32))
    return torch.nn.functional.cross_entropy(full, targets.flatten(), reduction="none").view(targets.shape)
