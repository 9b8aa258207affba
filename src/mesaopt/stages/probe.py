"""Linear probes: least squares without intercept from the residual stream to a target, after every layer, at every position.

Errors are half the squared error summed over channels, mean over kept sequences; splits and controls are those of
`analyses.probing`.
"""

import dataclasses
import os
from collections.abc import Mapping

import pandas as pd

from mesaopt.algorithms.learned import from_parameters
from mesaopt.algorithms.preconditioning import Preconditioned
from mesaopt.analyses.in_context import check_measurable, in_context_table
from mesaopt.analyses.linear_probes import activations
from mesaopt.analyses.probe_targets import CONTROLLED, PUBLISHED, TEXTBOOK, Sample, make_targets
from mesaopt.analyses.probing import Probing, read_splits
from mesaopt.analyses.trained import Trained
from mesaopt.errors import InputError
from mesaopt.spec.algorithm import Theory
from mesaopt.spec.analysis import Probe
from mesaopt.store.tables import read_table, write_table

File = str | os.PathLike[str]


#: the iterations behind the targets TEXTBOOK and PUBLISHED
Preconditioners = Mapping[str, Preconditioned]


def read_preconditioners(
    theory: Theory, parameters: File, published_theory: Theory, published_parameters: File
) -> dict[str, Preconditioned]:
    """The iterations by target; raises `InputError` as `read_preconditioner` does, and where an algorithm has the other form."""
    given = {TEXTBOOK: ("textbook", theory, parameters), PUBLISHED: ("published", published_theory, published_parameters)}
    for form, one, _ in given.values():
        if one.form != form:
            raise InputError(f"{one.name}: is of the {one.form} form, where probes need the {form} one")
    return {target: read_preconditioner(one, file) for target, (_, one, file) in given.items()}


def read_preconditioner(theory: Theory, parameters: File) -> Preconditioned:
    """The iteration behind a target; raises `InputError` when the parameters are of another algorithm."""
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
    published_parameters: File,
    theory: Theory,
    published_theory: Theory,
    controls: bool,
    settings: Probe,
    probes: File,
    in_context: File | None,
    device: str = "cpu",
) -> None:
    """Write table `probes` of a trained model and, if there is a path for it, table `in_context`; see `probe_run`."""
    preconditioners = read_preconditioners(theory, parameters, published_theory, published_parameters)
    table, measured = probe_run(weights, sequences, preconditioners, controls, in_context is not None, settings, device)
    write_table(table, "probes", probes)
    if in_context is not None and measured is not None:
        write_table(measured, "in_context", in_context)


def probe_run(
    weights: File,
    sequences: File,
    preconditioners: Preconditioners,
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
        lambda observations: Sample(observations, make_targets(trained.run.task, observations, preconditioners)),
        activations,
        CONTROLLED,
    )
    table, held_out = probing.table(trained, splits, controls, settings)
    if not in_context:
        return table, None
    measured = splits["evaluation"][: settings.in_context]
    return table, in_context_table(trained.model, measured, held_out["next_token"], settings.in_context_positions)
