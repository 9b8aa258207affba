"""Loss by position: trained models and hand-written algorithms through one call.

A predictor maps inputs (batch, time, n_obs) to predictions of the next observation at every position, of the same shape. Loss
is half the squared error summed over channels, mean over sequences: the unit of all losses in this project.
"""

import os
from collections.abc import Mapping

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from mesaopt.algorithms.learned import from_parameters
from mesaopt.algorithms.least_squares import LeastSquares
from mesaopt.data.files import read_observations, read_sequences
from mesaopt.data.test_sets import OWN, shared_batches
from mesaopt.errors import InputError
from mesaopt.models.predictors import Predictor, loss_by_position, model_predictor
from mesaopt.models.weights import load_model
from mesaopt.process.device import choose_device
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.analysis import Evaluate
from mesaopt.spec.run import Task, read_run
from mesaopt.store.tables import read_table, write_table

File = str | os.PathLike[str]


def _with_shared(
    task: Task, observations: Float[Tensor, "batch time_plus_1 n_obs"], settings: Evaluate
) -> dict[int, Float[Tensor, "size time_plus_1 n_obs"]]:
    """The given sequences, and the shared test batches of the task, by number."""
    return {OWN: observations, **dict(shared_batches(task, len(observations), settings.test_batches, settings.test_batch))}


def _write(
    predictor: Predictor,
    batches: Mapping[int, Float[Tensor, "size time_plus_1 n_obs"]],
    name: str,
    out: File,
    device: str = "cpu",
) -> None:
    losses = {number: loss_by_position(predictor, batch.to(device)).numpy() for number, batch in batches.items()}
    frames = [pd.DataFrame({"batch": number, "t": range(1, len(mse) + 1), "mse": mse}) for number, mse in losses.items()]
    write_table(pd.concat(frames, ignore_index=True).assign(predictor=name), "loss", out)


def evaluate_run(
    weights: File, sequences: File, name: str, out: File, settings: Evaluate = Evaluate(), device: str = "cpu"
) -> None:
    """Write table `loss` of a trained model, as series `name`: on the `evaluation` split of `sequences`, and on test batches."""
    run, _ = read_run(weights)
    observations = read_observations(sequences, "evaluation", run.task.n_obs)
    where = choose_device(device)
    predictor = model_predictor(load_model(run, weights).to(where))
    _write(predictor, _with_shared(run.task, observations, settings), name, out, where)


def evaluate_theory(
    theory: Theory,
    parameters: File,
    sequences: File,
    name: str,
    out: File,
    settings: Evaluate = Evaluate(),
    device: str = "cpu",
) -> None:
    """Write table `loss` of a hand-written algorithm with the learned parameters in file `parameters`."""
    observations = read_observations(sequences, "evaluation", theory.task.n_obs)
    predictor = from_parameters(theory, read_table(parameters, "parameters"))
    _write(predictor, _with_shared(theory.task, observations, settings), name, out, choose_device(device))


def evaluate_lsq(inverse_lam: float, sequences: File, name: str, out: File) -> None:
    """Write table `loss` of exact least squares with regulariser `inverse_lam` (1/lambda)."""
    if not inverse_lam > 0:
        raise InputError(f"--inverse-lam must be positive, not {inverse_lam}")
    _write(LeastSquares(inverse_lam), {OWN: read_sequences(sequences, "evaluation")}, name, out)
