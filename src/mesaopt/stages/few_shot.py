"""The stage `few-shot`: errors of labels by pair, of a trained model with and without tuned tokens and of least squares."""

import os

from mesaopt.analyses.few_shot import early_ascent, few_shot_table, searched_inverse_lam
from mesaopt.analyses.prompt_tokens import read_tokens
from mesaopt.analyses.trained import Trained
from mesaopt.data.files import read_observations
from mesaopt.errors import InputError
from mesaopt.spec.analysis import Labels
from mesaopt.store.tables import write_table

File = str | os.PathLike[str]


def few_shot_stage(
    weights: File, pairs: File, tokens: File, out: File, ascent: File, settings: Labels = Labels(), device: str = "cpu"
) -> None:
    """Write the tables `few_shot` and `early_ascent`, on the `evaluation` split of `pairs`; every two sequences of it are the two
    tasks where the task changes. A regulariser is searched on the split `probe_fit`.

    Raises `InputError` when files are missing or do not fit.
    """
    trained = Trained.read(weights, device)
    task = trained.run.task
    sequences = read_observations(pairs, "evaluation", task.n_obs)
    if sequences.shape[1] != task.context_length + 1 or len(sequences) < 2:
        found = f"{len(sequences)} of {sequences.shape[1]}"
        raise InputError(f"{pairs}: needs at least 2 sequences of {task.context_length + 1} elements, has {found}")
    tuned = {kind: of.to(trained.device) for kind, of in read_tokens(tokens, task.n_obs).items()}
    others = read_observations(pairs, "probe_fit", task.n_obs).to(trained.device)
    searched = searched_inverse_lam(others, settings)
    table = few_shot_table(trained.model, sequences.to(trained.device), tuned, settings, searched)
    write_table(table, "few_shot", out)
    write_table(early_ascent(table), "early_ascent", ascent)
