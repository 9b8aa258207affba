"""Token probes of a trained model, with their controls."""

import os

from mesaopt.analyses.probing import read_splits
from mesaopt.analyses.token_probes import token_table
from mesaopt.analyses.trained import Trained
from mesaopt.spec.analysis import Tokens
from mesaopt.store.tables import write_table

File = str | os.PathLike[str]


def token_probes_stage(
    weights: File, sequences: File, out: File, controls: bool = False, settings: Tokens = Tokens(), device: str = "cpu"
) -> None:
    """Write table `token_probes`.

    Raises `InputError` when files are missing or do not fit, and where there is no such layer or position.
    """
    trained = Trained.read(weights, device)
    settings.check(trained.run)
    splits = read_splits(trained.run.task, sequences, settings.in_sample, trained.device)
    write_table(token_table(trained, splits, controls, settings), "token_probes", out)
