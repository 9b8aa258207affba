"""What a training leaves behind: the files of each seed's folder, and the record of a run that diverged."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mesaopt.errors import DivergenceError, InputError
from mesaopt.models.weights import save_weights
from mesaopt.spec.run import Run, read_spec
from mesaopt.store.provenance import write_json
from mesaopt.store.tables import atomic_path, write_table
from mesaopt.training.state import Record, TrainingState


def write_outputs(run: Run, folders: Mapping[int, Path], state: TrainingState, provenance: dict[str, Any]) -> None:
    """Each seed's spec.json, history, snapshots, provenance.json and, last, weights. Raises `InputError` if the disk refuses."""
    for index, (seed, folder) in enumerate(folders.items()):
        write_spec(run, seed, folder / "spec.json")
        write_table(history_table(state.history, index), "history", folder / "history.parquet")
        snapshots = {
            f"step-{step}/{name}": t[index] for step, all_seeds in state.snapshots.items() for name, t in all_seeds.items()
        }
        save_weights(snapshots, folder / "snapshots.safetensors")
        write_json(folder / "provenance.json", provenance | {"run": run.name, "seed": seed})
        save_weights(state.model.seed_weights(index), folder / "weights.safetensors")


def write_spec(run: Run, seed: int, path: Path) -> None:
    """The settings of a run with its seed, as canonical JSON."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(run.to_dict() | {"seed": seed}, sort_keys=True, separators=(",", ":")) + "\n")


def is_finished(run: Run, seed: int, folder: Path, work: Mapping[str, str]) -> bool:
    """Whether `folder` holds the finished training of this seed with these settings and this code (weights come last)."""
    try:
        found = read_spec(folder / "spec.json")
        provenance = json.loads((folder / "provenance.json").read_text())
    except (OSError, ValueError, InputError):
        return False
    same = found == (run, seed) and provenance.get("code") == work["code"]
    return same and (folder / "weights.safetensors").exists()


def history_table(history: Sequence[Record], index: int) -> pd.DataFrame:
    """Table `history` of the seed at `index` of the pack."""
    return pd.DataFrame(
        {
            "step": [record.step for record in history],
            "train_loss": [math.nan if record.train is None else record.train[index] for record in history],
            "test_loss": [record.test[index] for record in history],
        }
    )


def write_divergence(folder: Path, identity: Mapping[str, Any], message: str, history: pd.DataFrame) -> None:
    """Keep the message and the finite part of the history in a seed's checkpoint folder, where a failed job's clean-up ends."""
    finite = history[history["test_loss"].map(math.isfinite) & ~history["train_loss"].map(math.isinf)]
    if len(finite):
        write_table(finite, "history", folder / "history.parquet")
    write_json(folder / "diverged.json", {"identity": dict(identity), "message": message})


def refuse_diverged(folder: Path, identity: Mapping[str, Any]) -> None:
    """Raise `DivergenceError` again if the same training diverged before; forget the divergence of any other."""
    path = folder / "diverged.json"
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); delete it and run again") from None
    if content["identity"] == json.loads(json.dumps(identity)):
        raise DivergenceError(content["message"])
    for name in ("diverged.json", "history.parquet"):
        (folder / name).unlink(missing_ok=True)


def remove_leftovers(folders: Iterable[Path]) -> None:
    """Half-written files of a killed trainer in its run folders; other stages' files there are not touched."""
    for folder in folders:
        for name in ("spec.json", "history.parquet", "snapshots.safetensors", "provenance.json", "weights.safetensors"):
            for leftover in folder.glob(f".{name}.*"):
                leftover.unlink(missing_ok=True)
