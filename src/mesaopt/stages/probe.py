"""Linear probes: least squares without intercept from the residual stream to a target, after every layer, at every position.

Errors are half the squared error summed over channels, mean over kept sequences; splits and controls are those of
`analyses.probing`.
"""

import dataclasses
import os

import pandas as pd

from mesaopt.algorithms.learned import from_parameters
from mesaopt.algorithms.preconditioning import Preconditioned
from mesaopt.analyses.in_context import check_measurable, in_context_table
from mesaopt.analyses.linear_probes import activations
from mesaopt.analyses.probe_targets import CONTROLLED, Sample, make_targets
from mesaopt.analyses.probing import Probing, read_splits
from mesaopt.analyses.trained import Trained
from mesaopt.errors import InputError
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.analysis import Probe
from mesaopt.store.tables import read_table, write_table

File = str | os.PathLike[str]


def read_preconditioner(theory: Theory, parameters: File) -> Preconditioned:
    """The iteration behind target `preconditioned_input`; raises `InputError` when the parameters are of another algorithm."""
    if theory.algorithm != "chebyshev":
        raise InputError(f"{theory.name}: probes need the parameters of a chebyshev algorithm, not of {theory.algorithm}")
    learned = from_parameters(theory, read_table(parameters, "parameters"))
    assert isinstance(learned, Preconditioned)
    # targets use all t - 1 pairs, whatever the curves do
    return dataclasses.replace(learned, lag=0)


def probe_stage(
    weights: File,
    sequences: File,
    parameters: File,
    theory: Theory,
    controls: bool,
    settings: Probe,
    probes: File,
    in_context: File | None,
    device: str = "cpu",
) -> None:
    """Write table `probes` of a trained model and, if there is a path for it, table `in_context`; see `probe_run`."""
    preconditioner = read_preconditioner(theory, parameters)
    table, measured = probe_run(weights, sequences, preconditioner, controls, in_context is not None, settings, device)
    write_table(table, "probes", probes)
    if in_context is not None and measured is not None:
        write_table(measured, "in_context", in_context)


def probe_run(
    weights: File,
    sequences: File,
    preconditioner: Preconditioned,
    controls: bool = False,
    in_context: bool = False,
    settings: Probe = Probe(),
    device: str = "cpu",
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Table `probes` of a trained model, and table `in_context` if asked for; its spec.json lies beside the weights.

    `controls` adds targets of other sequences, the untrained model, and the shared test batches. Raises `InputError` when files
    are missing or do not fit.
    """
    trained = Trained.read(weights, device)
    if in_context:
        check_measurable(trained.run.model.tokens, trained.run.task.context_length)
    splits = read_splits(trained.run.task, sequences, settings.in_sample, trained.device)
    probing = Probing(
        lambda observations: Sample(observations, make_targets(trained.run.task, observations, preconditioner)),
        activations,
        CONTROLLED,
    )
    table, held_out = probing.table(trained, splits, controls, settings)
    if not in_context:
        return table, None
    readouts = held_out["next_token"][:, -1]
    return table, in_context_table(trained.model, splits["evaluation"][: settings.in_context], readouts)
