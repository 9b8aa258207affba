"""Loss by position: trained models and hand-written algorithms through one call.

A predictor maps inputs (batch, time, n_obs) to predictions of the next observation at every position, of the same shape. Loss is
half the squared error summed over channels, mean over sequences: the unit of all losses in this project. Where single sequences
differ much, means need many of them: `settings.sequences` says how many, for a stated precision (docs/evidence.md).
"""

import os
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.algorithms.learned import from_parameters
from mesaopt.algorithms.least_squares import LeastSquares
from mesaopt.data.files import read_observations, read_sequences
from mesaopt.data.own_sequences import own_sequences
from mesaopt.data.test_sets import OWN, shared_batches
from mesaopt.errors import InputError
from mesaopt.models.predictors import Predictor, losses, model_predictor
from mesaopt.models.weights import load_model
from mesaopt.process.device import choose_device
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.analysis import Evaluate
from mesaopt.spec.run import Task, read_run
from mesaopt.store.tables import read_table, write_table

File = str | os.PathLike[str]


Observations = Float[Tensor, "batch time_plus_1 n_obs"]


def _batches(task: Task, seed: int, first: Observations, settings: Evaluate) -> Iterator[tuple[int, Iterable[Observations]]]:
    """The seed's own sequences, and the shared test batches of the task, by number; each in chunks."""
    yield OWN, own_sequences(task, seed, first, settings.sequences)
    for number, batch in shared_batches(task, len(first), settings.test_batches, settings.test_batch):
        yield number, [batch]


def statistics(values: Float[Tensor, "sequences time"]) -> pd.DataFrame:
    """Columns t, sequences, mse (the mean over sequences), error (its standard error, 0 of a single sequence) and median."""
    table = values.numpy()
    count, time = table.shape
    deviation = table.std(axis=0, ddof=1, dtype=np.float64) if count > 1 else np.zeros(time)
    columns = {
        "mse": table.mean(axis=0, dtype=np.float64),
        "error": deviation / np.sqrt(count),
        "median": np.median(table, axis=0),
    }
    return pd.DataFrame({"t": range(1, time + 1), "sequences": count, **columns})


def _write(
    predictor: Predictor, batches: Iterable[tuple[int, Iterable[Observations]]], name: str, out: File, device: str = "cpu"
) -> None:
    frames = [
        # four bytes a position suffice for a median, and for a mean summed in eight
        statistics(torch.cat([losses(predictor, part.to(device)).float() for part in parts])).assign(batch=number)
        for number, parts in batches
    ]
    write_table(pd.concat(frames, ignore_index=True).assign(predictor=name), "loss", out)


def evaluate_run(
    weights: File, sequences: File, name: str, out: File, settings: Evaluate = Evaluate(), device: str = "cpu"
) -> None:
    """Write table `loss` of a trained model, as series `name`: on the `evaluation` split of `sequences` and as many more as the
    settings say, and on test batches.
    """
    run, seed = read_run(weights)
    observations = read_observations(sequences, "evaluation", run.task.n_obs)
    where = choose_device(device)
    predictor = model_predictor(load_model(run, weights).to(where))
    _write(predictor, _batches(run.task, seed, observations, settings), name, out, where)


def evaluate_theory(
    theory: Theory,
    parameters: File,
    sequences: File,
    seed: int,
    name: str,
    out: File,
    settings: Evaluate = Evaluate(),
    device: str = "cpu",
) -> None:
    """Write table `loss` of a hand-written algorithm with the learned parameters in file `parameters`, on what trained models of
    that `seed` are evaluated on.
    """
    observations = read_observations(sequences, "evaluation", theory.task.n_obs)
    predictor = from_parameters(theory, read_table(parameters, "parameters"))
    _write(predictor, _batches(theory.task, seed, observations, settings), name, out, choose_device(device))


def evaluate_lsq(inverse_lam: float, sequences: File, name: str, out: File) -> None:
    """Write table `loss` of exact least squares with regulariser `inverse_lam` (1/lambda)."""
    if not inverse_lam > 0:
        raise InputError(f"--inverse-lam must be positive, not {inverse_lam}")
    _write(LeastSquares(inverse_lam), [(OWN, [read_sequences(sequences, "evaluation")])], name, out)
