"""The stage `data`: sequences for evaluation and probing, and the systems that produced them."""

from collections.abc import Sequence
from pathlib import Path

from mesaopt.data.files import write_sequences
from mesaopt.errors import InputError
from mesaopt.spec.run import Task


def write_data(task: Task, seed: int, counts: Sequence[str], sequences: Path, systems: Path) -> None:
    """Write the tables `sequences` and `systems`; `counts` says how many of each split, as in evaluation=256."""
    write_sequences(task, seed, read_counts(counts), sequences, systems)


def read_counts(pairs: Sequence[str]) -> dict[str, int]:
    """Number by split; raises `InputError` for anything but SPLIT=NUMBER."""
    counts: dict[str, int] = {}
    for pair in pairs:
        split, _, number = pair.partition("=")
        if not (split and number.isdigit() and int(number) >= 1):
            raise InputError(f"--counts {pair}: must be SPLIT=NUMBER, such as evaluation=256")
        counts[split] = int(number)
    return counts
