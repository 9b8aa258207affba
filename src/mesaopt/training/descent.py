"""Gradient descent on a loss of a few parameters: learned algorithms, and what else is fitted beside the trainings of models."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from mesaopt.errors import DivergenceError
from mesaopt.training.optimizer import AdamW
from mesaopt.training.schedule import learning_rate


@dataclass(frozen=True)
class Settings:
    """How to descend; names as in `spec.run.Training`. `clip` bounds every entry of the gradients (None: no clipping)."""

    steps: int
    lr: float
    weight_decay: float = 0.0
    warmup: int = 0
    horizon: int | None = None
    final_lr: float | None = None
    clip: float | None = None


def descend(
    parameters: Iterable[Parameter], loss: Callable[[int], Float[Tensor, ""]], settings: Settings, what: str
) -> list[float]:
    """Change the parameters in place by AdamW; `loss(step)` is that of the present ones on the data of a step = 0, 1, ...

    Returns the loss before every update. Raises `DivergenceError`, naming `what` is learned and the step, when it is not finite.
    """
    optimizer = AdamW(parameters, settings.weight_decay)
    horizon = settings.horizon or settings.steps
    history = []
    for step in range(settings.steps):
        value = loss(step)
        history.append(value.item())
        if not torch.isfinite(value):
            raise DivergenceError(f"{what}: loss {value.item()} at step {step}; a smaller lr may help")
        optimizer.gradients.zero_()
        value.backward()
        if settings.clip is not None:
            optimizer.gradients.clamp_(-settings.clip, settings.clip)
        optimizer.update(step, learning_rate(step, settings.lr, settings.warmup, horizon, settings.final_lr))
    return history
