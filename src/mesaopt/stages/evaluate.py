"""Loss by position: trained models and hand-written algorithms through one call.

A predictor maps inputs (batch, time, n_obs) to predictions of the next observation at every position, of the same shape. Loss
is half the squared error summed over channels, mean over sequences: the unit of all losses in this project.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.algorithms.least_squares import LeastSquares
from mesaopt.data.files import read_sequences
from mesaopt.data.sequences import inputs_targets
from mesaopt.data.test_sets import OWN, shared_batches
from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer
from mesaopt.models.weights import load_model
from mesaopt.spec.run import Run, Task, Theory, read_spec
from mesaopt.store.tables import read_table, write_table
from mesaopt.training.learning import from_parameters

Predictor = Callable[[Tensor], Tensor]
File = str | os.PathLike[str]


def loss_by_position(
    predictor: Predictor, observations: Float[Tensor, "batch time_plus_1 n_obs"], chunk: int = 64
) -> Float[Tensor, "time"]:
    """Mean loss at each t = 1..T in float64; `chunk` sequences at a time, so memory does not grow with their number."""
    batch, elements, _ = observations.shape
    total = torch.zeros(elements - 1, dtype=torch.float64)
    for part in observations.split(chunk):
        inputs, targets = inputs_targets(part)
        total += (predictor(inputs) - targets).double().square().sum(dim=(0, 2))
    return total / (2 * batch)


def model_predictor(model: Transformer) -> Predictor:
    """A trained model (a pack of one) as a predictor: tokenises its inputs, computes no gradients."""

    def predict(inputs: Float[Tensor, "batch time n_obs"]) -> Float[Tensor, "batch time n_obs"]:
        with torch.no_grad():
            return model(tokenise(inputs, model.model.tokens)[None])[0]

    return predict


def read_run(weights: File) -> tuple[Run, int]:
    """Spec and seed of a training, from the spec.json beside its weights; raises `InputError` when it is missing or damaged."""
    return read_spec(Path(weights).parent / "spec.json")


def read_observations(path: File, split: str, width: int) -> Float[Tensor, "batch time_plus_1 n_obs"]:
    """One split of a sequences file; raises `InputError` unless the observations have `width` channels."""
    observations = read_sequences(path, split)
    if observations.shape[-1] != width:
        raise InputError(f"{path}: observations have {observations.shape[-1]} channels; the predictor needs {width}")
    return observations


def _write(
    predictor: Predictor, observations: Float[Tensor, "batch time_plus_1 n_obs"], task: Task | None, name: str, out: File
) -> None:
    """Loss on the given sequences and, if the `task` is known, on the shared test batches."""
    batches = [(OWN, observations), *(shared_batches(task, len(observations)) if task else ())]
    losses = {number: loss_by_position(predictor, batch).numpy() for number, batch in batches}
    frames = [pd.DataFrame({"batch": number, "t": range(1, len(mse) + 1), "mse": mse}) for number, mse in losses.items()]
    write_table(pd.concat(frames, ignore_index=True).assign(predictor=name), "loss", out)


def evaluate_run(weights: File, sequences: File, name: str, out: File) -> None:
    """Write table `loss` of a trained model, as series `name`: on the `evaluation` split of `sequences`, and on test batches."""
    run, _ = read_run(weights)
    observations = read_observations(sequences, "evaluation", run.task.n_obs)
    _write(model_predictor(load_model(run, weights)), observations, run.task, name, out)


def evaluate_theory(theory: Theory, parameters: File, sequences: File, name: str, out: File) -> None:
    """Write table `loss` of a hand-written algorithm with the learned parameters in file `parameters`."""
    observations = read_observations(sequences, "evaluation", theory.task.n_obs)
    _write(from_parameters(theory, read_table(parameters, "parameters")), observations, theory.task, name, out)


def evaluate_lsq(inverse_lam: float, sequences: File, name: str, out: File) -> None:
    """Write table `loss` of exact least squares with regulariser `inverse_lam` (1/lambda)."""
    if not inverse_lam > 0:
        raise InputError(f"--inverse-lam must be positive, not {inverse_lam}")
    _write(LeastSquares(inverse_lam), read_sequences(sequences, "evaluation"), None, name, out)
