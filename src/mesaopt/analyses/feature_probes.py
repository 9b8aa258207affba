"""Feature probes: how well MLP(s_t), which the next state of nonlinear systems comes from, can be decoded at t after each layer.

Not normalised, as published; the residual stream after every block is probed, its MLP included, and the input embedding (paper,
section on creating the mesa-dataset: nonlinear dynamics).
"""

from collections.abc import Callable, Mapping

import pandas as pd
import torch
from torch import Tensor

from mesaopt.analyses.linear_probes import activations
from mesaopt.analyses.probe_targets import Sample, Target
from mesaopt.analyses.probing import Observations, Probing
from mesaopt.analyses.trained import Trained
from mesaopt.data.sequences import generator_of, inputs_targets
from mesaopt.errors import InputError
from mesaopt.spec.analysis import Samples
from mesaopt.spec.run import Run

#: of states, normalised or not
Function = Callable[[Tensor, bool], Tensor]


def features_of(run: Run) -> Function:
    """The features of the run's task; raises `InputError` for a task whose next state is linear in the state itself."""
    features = generator_of(run.task).features
    if features is None:
        raise InputError(f"{run.name}: feature probes are of tasks with features, which task kind {run.task.kind} has not")
    return features


def feature_table(
    trained: Trained, splits: Mapping[str, Observations], controls: bool, settings: Samples = Samples()
) -> pd.DataFrame:
    """Table `feature_probes`: squared error, mean over channels and sequences, and r2, after each layer at every t."""
    features = features_of(trained.run)
    probing = Probing(lambda observations: _sample(observations, features), activations, ("features",))
    table, probes = probing.table(trained, splits, controls, settings)
    width = probes["features"].shape[-1]
    return table.assign(mse=table["mse"] * 2 / width)  # which is half the sum over channels


def _sample(observations: Observations, features: Function) -> Sample:
    values = features(inputs_targets(observations.double())[0], False)
    everything = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    return Sample(observations, {"features": Target(values, everything)})
