"""Evaluation and probing sequences as Parquet files, with the systems that produced them."""

import os
from collections.abc import Container, Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.data.random import generator
from mesaopt.data.sampler import Sequences
from mesaopt.data.sequences import generate, generator_of
from mesaopt.errors import InputError
from mesaopt.spec.run import Task
from mesaopt.store.tables import read_table, write_table

SPLITS = ("evaluation", "probe_fit", "probe_score")

Path = str | os.PathLike[str]


def write_sequences(task: Task, seed: int, counts: Mapping[str, int], sequences_path: Path, systems_path: Path) -> None:
    """Draw `counts[split]` sequences for every split and write the tables `sequences` and `systems`.

    Every split has a stream of its own, so its size changes no other. A matrix that all sequences share is written once per
    split, as that of sequence 0. Raises `InputError` for an unknown split, an empty one, or a disk that refuses.
    """
    sequences, systems = [], []
    for split, count in counts.items():
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
        if count < 1:
            raise InputError(f"split {split} needs at least 1 sequence, not {count}")
        drawn = generate(task, count, generator(seed, split))
        sequences.append(_sequence_rows(split, drawn))
        systems.append(_system_rows(split, drawn, generator_of(task).shared))
    if not sequences:
        raise InputError(f"no split to draw: at least one of {', '.join(SPLITS)}")
    write_table(pd.concat(sequences, ignore_index=True), "sequences", sequences_path)
    write_table(pd.concat(systems, ignore_index=True), "systems", systems_path)


def _index(*shape: int) -> list[np.ndarray]:
    return [axis.ravel() for axis in np.indices(shape, dtype=np.int32)]


def _sequence_rows(split: str, drawn: Sequences) -> pd.DataFrame:
    batch, time, n_obs = drawn.observations.shape
    sequence, t = _index(batch, time)
    channels = drawn.observations.numpy().reshape(batch * time, n_obs)
    columns = {"sequence": sequence, "t": t + 1} | {f"s_{i}": channels[:, i] for i in range(n_obs)}
    return pd.DataFrame(columns).assign(split=split)


def _system_rows(split: str, drawn: Sequences, shared: Container[str]) -> pd.DataFrame:
    frames = []
    for name, matrices in drawn.systems.items():
        count = 1 if name in shared else len(matrices)
        sequence, row, col = _index(count, *matrices.shape[1:])
        columns = {"sequence": sequence, "row": row, "col": col, "value": matrices[:count].numpy().ravel()}
        frames.append(pd.DataFrame(columns).assign(split=split, matrix=name))
    return pd.concat(frames, ignore_index=True)


def read_sequences(path: Path, split: str) -> Float[Tensor, "batch time_plus_1 n_obs"]:
    """The sequences of one split in float32; raises `InputError` when the file or the split is missing or damaged."""
    frame = read_table(path, "sequences")
    rows = frame[frame["split"] == split]
    if rows.empty:
        raise InputError(f"{path}: no split {split!r}; it has {', '.join(frame['split'].unique())}")
    batch, time = (int(rows[column].nunique()) for column in ("sequence", "t"))
    sequence, t = _index(batch, time)
    whole = len(rows) == batch * time
    if not whole or not ((rows["sequence"] == sequence).all() and (rows["t"] == t + 1).all()):
        raise InputError(f"{path}: split {split} is damaged: sequences are not whole and in order; delete it and run again")
    n_obs = sum(name.startswith("s_") for name in frame.columns)
    values = rows[[f"s_{i}" for i in range(n_obs)]].to_numpy(dtype=np.float32)
    return torch.from_numpy(values.reshape(batch, time, n_obs).copy())


def read_observations(path: Path, split: str, width: int) -> Float[Tensor, "batch time_plus_1 n_obs"]:
    """One split of a sequences file; raises `InputError` unless the observations have `width` channels."""
    observations = read_sequences(path, split)
    if observations.shape[-1] != width:
        raise InputError(f"{path}: observations have {observations.shape[-1]} channels; the predictor needs {width}")
    return observations
