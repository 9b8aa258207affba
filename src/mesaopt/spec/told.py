"""What results without a record of how they were made say of themselves in the JSON beside them: is it what is asked?"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mesaopt.errors import InputError
from mesaopt.spec.json import Spec
from mesaopt.spec.run import Run, read_spec
from mesaopt.spec.stage import Stage


def trained_otherwise(folder: Path, run: Run, seed: int, code: str) -> str | None:
    """What the finished training in `folder` says otherwise than `run`, this seed and the fingerprint `code`: "" if nothing, None
    if it does not say all of them.

    Its spec.json says settings and seed, its provenance.json the code.
    """
    try:
        found = read_spec(folder / "spec.json")
    except InputError:
        return None
    if found != (run, seed):
        return f"{folder / 'spec.json'}: other settings"
    code_then = _read(folder / "provenance.json").get("code")
    return None if code_then is None else "" if code_then == code else f"{folder / 'provenance.json'}: other code"


def made_otherwise(entry: Stage, values: Mapping[str, Any]) -> str | None:
    """What the JSON beside the tables of a stage tells otherwise than it is asked, with these arguments; None if nothing."""
    asked = {option.name: values[option.dest] for option in entry.options if option.name in (*entry.told, "settings")}
    for table in entry.tables_written(values):
        told = _read(table.with_suffix(".json"))
        for name in asked.keys() & told.keys():
            if not _same(told[name], asked[name]):
                return f"{name} {json.dumps(told[name], sort_keys=True)} ({table})"
    return None


def collected_otherwise(provenance: Path, run: Callable[[str], Run], seeds: Iterable[int]) -> str | None:
    """What the JSON of a figure's table tells otherwise than `seeds` and the settings of its runs, which `run` gives by name."""
    told = _read(provenance)
    if told.get("seeds", list(seeds)) != list(seeds):
        return f"seeds {told['seeds']} ({provenance})"
    for name, of in told.get("runs", {}).items():
        try:
            same = _same(of["spec"], run(name))
        except InputError:  # there is no such run any more
            same = False
        if not same:
            return f"{name} {json.dumps(of['spec'], sort_keys=True)} ({provenance})"
    return None


def _same(told: Any, asked: Any) -> bool:
    """Whether settings in JSON are those asked for; what an older version did not know has its default."""
    try:
        return bool((type(asked).from_dict(told) if isinstance(asked, Spec) else told) == asked)
    except InputError:
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
