"""The trained runs of a scale for the page: settings, seeds, hours, and the loss along every training."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mesaopt.browse.arrays import Positions, typed
from mesaopt.errors import InputError
from mesaopt.spec.files import history_files
from mesaopt.spec.language import LanguageRun
from mesaopt.spec.run import Run, read_spec
from mesaopt.store.tables import read_table

#: run and settings (as canonical JSON): a name that stands for other settings elsewhere is another run
Key = tuple[str, str]


def trainings(results: Path, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """`runs` and `xs`, the steps that curves name; `records` are the JSON of figures, by figure, which know of runs whose
    histories are not here.

    Raises `InputError` for damaged tables and settings.
    """
    positions = Positions()
    found: dict[Key, dict[str, Any]] = {}
    for path in history_files(results):
        trained, seed = read_spec(path.with_name("spec.json"))
        _of(found, trained)["curves"].append(_curve(path, seed, positions))
    for name, run, seeds, hours in _recorded(records):
        entry = _of(found, run)
        entry["figures"].append(name)
        entry["hours"] |= hours
        entry["seeds"] = sorted({*entry["seeds"], *seeds})
    for entry in found.values():
        entry["seeds"] = sorted({*entry["seeds"], *(curve["seed"] for curve in entry["curves"])})
    return {"runs": [found[key] for key in sorted(found)], "xs": positions.kept}


def _of(found: dict[Key, dict[str, Any]], run: Run | LanguageRun) -> dict[str, Any]:
    return found.setdefault((run.name, run.to_json()), _entry(run))


def _entry(run: Run | LanguageRun) -> dict[str, Any]:
    return {
        "run": run.name,
        "task": run.task.kind,
        "layers": in_words(run.model.layers),
        "settings": dict(_settings(run)),
        "seeds": [],
        "hours": {},
        "figures": [],
        "curves": [],
    }


def in_words(layers: tuple[str, ...]) -> str:
    """The kinds of layers, from the first to the last: `mesa, 6 linear`."""
    counted: list[tuple[str, int]] = []
    for layer in layers:
        same = bool(counted) and counted[-1][0] == layer
        counted[-1:] = [(layer, counted[-1][1] + 1)] if same else [*counted[-1:], (layer, 1)]
    return ", ".join(layer if count == 1 else f"{count} {layer}" for layer, count in counted)


def _settings(run: Run | LanguageRun) -> Iterator[tuple[str, Any]]:
    """Every setting, defaults too, each by its own name; `depth` is the number of layers."""
    yield "depth", len(run.model.layers)
    for part in (run.model, run.training, run.task):
        for name, value in vars(part).items():
            yield (f"task {name}" if name == "name" else name), list(value) if isinstance(value, tuple) else value


def _curve(path: Path, seed: int, positions: Positions) -> dict[str, Any]:
    """Test and training loss by step of one seed."""
    table = read_table(path, "history")
    steps = positions.place(table["step"].to_numpy())
    trained = table["train_loss"].notna()
    return {
        "seed": seed,
        "x": steps,
        "test_loss": typed(table["test_loss"].to_numpy()),
        "train_x": positions.place(table["step"][trained].to_numpy()),
        "train_loss": typed(table["train_loss"][trained].to_numpy()),
        "last": float(table["test_loss"].iloc[-1]),
    }


def _recorded(
    records: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, Run | LanguageRun, list[int], dict[str, float]]]:
    """Figure, run, seeds and hours by seed of all that the JSON of figures say of runs."""
    for name, record in records.items():
        for run, facts in record.get("runs", {}).items():
            try:
                on_text = "corpora" in facts["spec"].get("task", {})
                spec = (LanguageRun if on_text else Run).from_dict(facts["spec"])
            except (InputError, KeyError, TypeError) as error:
                raise InputError(f"the JSON of {name}: {run} has no settings of a run ({error})") from None
            yield name, spec, facts.get("seeds", []), facts.get("hours", {})
