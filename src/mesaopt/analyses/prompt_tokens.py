"""Tuned tokens of prompts as a table, and whether pairs fit a model."""

import os

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.errors import InputError
from mesaopt.spec.run import Run, Task
from mesaopt.store.tables import read_table, write_table

File = str | os.PathLike[str]
KINDS = ("prefix", "separator")


def write_tokens(tokens: dict[str, Float[Tensor, "_ n"]], path: File) -> None:
    """Write the table `prompt_tokens`: one row per token and channel."""
    frames = []
    for kind, vectors in tokens.items():
        number, channel = (axis.ravel() for axis in np.indices(tuple(vectors.shape), dtype=np.int32))
        values = vectors.detach().cpu().double().numpy().ravel()
        frames.append(pd.DataFrame({"token": kind, "number": number, "channel": channel, "value": values}))
    write_table(pd.concat(frames, ignore_index=True), "prompt_tokens", path)


def read_tokens(path: File, width: int) -> dict[str, Float[Tensor, "_ n"]]:
    """Tuned tokens by kind in float32; raises `InputError` unless they are whole, of known kinds and `width` channels wide."""
    table = read_table(path, "prompt_tokens")
    found = {}
    for kind, rows in table.groupby("token"):
        square = rows.pivot_table(index="number", columns="channel", values="value")
        if kind not in KINDS or square.shape[1] != width or square.size != len(rows) or square.isna().any(axis=None):
            raise InputError(f"{path}: tokens of kind {kind} are not whole, or not {width} channels wide")
        found[str(kind)] = torch.from_numpy(square.to_numpy(dtype=np.float32).copy())
    if "separator" not in found:
        raise InputError(f"{path}: there is no separator among the tokens")
    return found


def require_pairs(run: Run, task: Task) -> None:
    """Raises `InputError` unless `task` makes pairs for the model of `run`."""
    if task.kind != "few_shot":
        raise InputError(f"task {task.name} makes no pairs: its kind is {task.kind}, not few_shot")
    if (task.n_obs, task.context_length) != (run.task.n_obs, run.task.context_length):
        ours, theirs = ((of.n_obs, of.context_length) for of in (run.task, task))
        raise InputError(
            f"{run.name}: {ours[0]} channels and a context of {ours[1]}; the pairs of task {task.name} have {theirs[0]} and"
            f" {theirs[1]}"
        )
