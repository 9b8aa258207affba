"""The stage `begin`: what the first steps of a longer training leave, as the files of a run of its own (spec.beginnings)."""

import json
from pathlib import Path

from mesaopt.analyses.snapshots import read_snapshots
from mesaopt.errors import InputError
from mesaopt.models.weights import save_weights
from mesaopt.spec.beginnings import is_beginning
from mesaopt.spec.run import Run, read_spec
from mesaopt.store.provenance import write_json
from mesaopt.store.tables import read_table, write_table
from mesaopt.training.run_folder import write_spec


def begin_stage(spec: Run, longer: Path, weights: Path) -> None:
    """Write spec.json, history, snapshots, provenance.json and, last, weights of the run `spec` beside `weights`, from the
    finished training in the folder `longer`, bit for bit as a training of its own would leave them.

    Raises `InputError` where that training is another one, or its files are missing or damaged.
    """
    found, seed = read_spec(longer / "spec.json")
    if not is_beginning(spec, found):
        raise InputError(f"{longer}: {spec.name} is not the beginning of {found.name}: their settings differ")
    folder, steps = weights.parent, spec.training.steps
    snapshots = read_snapshots(longer / "snapshots.safetensors")
    if steps not in snapshots:
        raise InputError(f"{longer / 'snapshots.safetensors'}: holds no weights of step {steps}")
    write_spec(spec, seed, folder / "spec.json")
    history = read_table(longer / "history.parquet", "history")
    write_table(history[history["step"] <= steps], "history", folder / "history.parquet")
    kept = [step for step in snapshots if step <= steps and spec.training.snapshot_at(step)]
    tensors = {f"step-{step}/{name}": tensor for step in kept for name, tensor in snapshots[step].items()}
    save_weights(tensors, folder / "snapshots.safetensors")
    provenance = json.loads((longer / "provenance.json").read_text(encoding="utf-8"))
    write_json(folder / "provenance.json", provenance | {"run": spec.name, "beginning_of": found.name})
    save_weights(snapshots[steps], weights)
