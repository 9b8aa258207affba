"""A backend held against PyTorch on the machine that it is to train on, before it trains."""

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mesaopt.backends.protocol import Backend
from mesaopt.backends.torch import TorchBackend
from mesaopt.data.sequences import training_batch
from mesaopt.spec.run import Run
from mesaopt.training.state import TrainingState
from mesaopt.training.step import tokens_targets

#: sequences of each seed that are looked at, and how far the two may be apart, as parts of the loss and of the gradient's norm:
#: a hundred times what single precision leaves, far below what a wrong derivative does
SEQUENCES, APART = 8, 1e-3


def disagreement(run: Run, seeds: Sequence[int], state: TrainingState, backend: Backend) -> str | None:
    """Where loss or gradients of a small batch differ from PyTorch's, in words, or None. `state` stays as it is."""
    device = state.optimizer.values.device.type
    observations = training_batch(run.task, seeds, SEQUENCES, "check", 0, device)
    batch = tokens_targets(run, observations)
    try:
        ours, theirs = (_results(one, state, batch) for one in (backend, TorchBackend()))
        apart = max(float((mine - other).norm() / other.norm()) for mine, other in zip(ours, theirs, strict=True))
    except RuntimeError as error:
        return f"it failed on this device ({str(error).splitlines()[0]})"
    # not a number is no agreement either
    return None if apart <= APART else f"its gradients are {apart:.1g} of their norm from PyTorch's on this device"


def _results(backend: Backend, state: TrainingState, batch: tuple[Tensor, Tensor]) -> Iterator[Tensor]:
    """Losses, and the gradient of all parameters together."""
    model = copy.deepcopy(state.model)
    losses = backend.loss_and_gradients(model, *batch)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    yield from (losses, torch.cat([gradient.flatten() for gradient in gradients]))
