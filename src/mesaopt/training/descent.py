"""Gradient descent on a loss of a few parameters: learned algorithms, and what else is fitted beside the trainings of models."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from mesaopt.errors import DivergenceError
from mesaopt.process.checkpoint import load_checkpoint, save_checkpoint
from mesaopt.process.progress import LineAMinute
from mesaopt.process.stopping import StopRequest
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


class Checkpoints:
    """What a descent has reached, kept in the file `path` every so many seconds; it belongs to `identity`."""

    def __init__(self, path: Path, identity: Mapping[str, Any], every: float) -> None:
        """A time of 0 seconds saves after every step."""
        self.path, self.identity, self.every = path, identity, every
        self.saved = time.monotonic()

    def restore(self, optimizer: AdamW, what: str) -> list[float]:
        """Sets the optimizer and its parameters to where an interrupted descent was, says so, and returns its losses so far."""
        found = load_checkpoint(self.path, self.identity)
        if found is None:
            return []
        optimizer.restore(found[1])
        history: list[float] = found[0]["history"]
        print(f"{what}: goes on at step {len(history)}", file=sys.stderr, flush=True)
        return history

    def keep(self, optimizer: AdamW, history: list[float], stop: StopRequest) -> None:
        """Saves when it is time, or when the process is to stop; then leaves."""
        if stop.signal is not None or time.monotonic() > self.saved + self.every:
            save_checkpoint(self.path, self.identity, {"history": history}, optimizer.state())
            self.saved = time.monotonic()
        if stop.signal is not None:
            stop.leave()


def descend(
    parameters: Iterable[Parameter],
    loss: Callable[[int], Float[Tensor, ""]],
    settings: Settings,
    what: str,
    checkpoints: Checkpoints | None = None,
) -> list[float]:
    """Change the parameters in place by AdamW; `loss(step)` is that of the present ones on the data of a step = 0, 1, ...; one
    that PyTorch cannot differentiate has written their gradients itself, in place.

    Returns the loss before every update. With `checkpoints` it goes on from one, and ends with the same bits as an uninterrupted
    one; SIGTERM and SIGINT are then obeyed after the current step. Raises `DivergenceError`, naming `what` is learned and the
    step, when the loss is not finite.
    """
    optimizer = AdamW(parameters, settings.weight_decay)
    history = [] if checkpoints is None else checkpoints.restore(optimizer, what)
    stop, progress = StopRequest(), LineAMinute(what, settings.steps, len(history))
    with contextlib.nullcontext() if checkpoints is None else stop:
        for _ in range(len(history), settings.steps):
            _step(optimizer, loss, settings, what, history)
            progress.update(len(history), history[-1])
            if checkpoints is not None:
                checkpoints.keep(optimizer, history, stop)
    return history


def _step(
    optimizer: AdamW, loss: Callable[[int], Float[Tensor, ""]], settings: Settings, what: str, history: list[float]
) -> None:
    """One update, whose loss is added to the history."""
    step = len(history)
    optimizer.gradients.zero_()
    value = loss(step)
    history.append(value.item())
    if not torch.isfinite(value):
        raise DivergenceError(f"{what}: loss {value.item()} at step {step}; a smaller lr may help")
    if value.requires_grad:
        value.backward()
    if settings.clip is not None:
        optimizer.gradients.clamp_(-settings.clip, settings.clip)
    horizon = settings.horizon or settings.steps
    optimizer.update(step, learning_rate(step, settings.lr, settings.warmup, horizon, settings.final_lr))
