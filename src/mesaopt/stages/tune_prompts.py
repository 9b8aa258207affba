"""The stage `tune-prompts`: from a trained model to tuned tokens of prompts, and how their tuning went."""

import os
from pathlib import Path

import pandas as pd

from mesaopt.analyses.prompt_tokens import require_pairs, write_tokens
from mesaopt.analyses.trained import Trained
from mesaopt.process.checkpoint import exclusive
from mesaopt.spec.analysis import Prompts
from mesaopt.spec.run import Task
from mesaopt.store.tables import write_table
from mesaopt.training.fitting import Kept
from mesaopt.training.prompts import tune

File = str | os.PathLike[str]


def tune_prompts_stage(
    weights: File,
    task: Task,
    checkpoints: Path,
    tokens: File,
    tuning: File,
    settings: Prompts = Prompts(),
    checkpoint_every: float = 20.0,
    device: str = "cpu",
    backend: str = "auto",
) -> None:
    """Write the tables `prompt_tokens` and `tuning`; one line on standard output says how it went.

    `task` makes the pairs, `checkpoints` is the folder for all checkpoints: an interrupted tuning goes on from the last one.
    Raises `InputError` when files are missing or pairs do not fit the model.
    """
    trained = Trained.read(weights, device)
    settings.check(trained.run)
    require_pairs(trained.run, task)
    home = checkpoints / "prompts" / trained.run.name / f"seed-{trained.seed}"
    with exclusive(home, f"{trained.run.name} seed {trained.seed}: its prompts"):
        found, history = tune(trained.run, trained.seed, trained.model, task, settings, Kept(home, checkpoint_every), backend)
        write_tokens(found, tokens)
        write_table(history, "tuning", tuning)
        for kind in found:
            (home / kind).unlink(missing_ok=True)
    print(f"{trained.run.name} seed {trained.seed}: {_course(history)}", flush=True)


def _course(history: pd.DataFrame) -> str:
    """Loss of either kind of tokens at the beginning and at the end."""
    ends = {str(kind): rows["loss"].iloc[[0, -1]] for kind, rows in history.groupby("token", sort=False)}
    return ", ".join(f"{kind}: loss {first:.4f} -> {last:.4f}" for kind, (first, last) in ends.items())
