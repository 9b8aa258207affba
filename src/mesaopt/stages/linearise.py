"""The stage `linearise`: test loss with linear layers in the place of softmax ones."""

import os

from mesaopt.analyses.linearisation import linearisation_table, read_linear_layers
from mesaopt.analyses.trained import Trained
from mesaopt.spec.analysis import Linearise
from mesaopt.store.tables import write_table

File = str | os.PathLike[str]


def linearise_stage(
    weights: File, linear_layers: File, out: File, settings: Linearise = Linearise(), device: str = "cpu"
) -> None:
    """Write table `linearisation`; raises `InputError` when files are missing or do not fit."""
    trained = Trained.read(weights, device)
    write_table(linearisation_table(trained, read_linear_layers(linear_layers), settings), "linearisation", out)
