"""Feature probes of a model that was trained on a nonlinear task, with their controls."""

import os

from mesaopt.analyses.feature_probes import feature_table, features_of
from mesaopt.analyses.probing import read_splits
from mesaopt.analyses.trained import Trained
from mesaopt.spec.analysis import Samples
from mesaopt.store.tables import write_table

File = str | os.PathLike[str]


def feature_probes_stage(
    weights: File, sequences: File, out: File, controls: bool = False, settings: Samples = Samples(), device: str = "cpu"
) -> None:
    """Write table `feature_probes`; raises `InputError` when files are missing or do not fit, or the task has no features."""
    trained = Trained.read(weights, device)
    features_of(trained.run)
    splits = read_splits(trained.run.task, sequences, settings.in_sample, trained.device)
    write_table(feature_table(trained, splits, controls, settings), "feature_probes", out)
