"""Labels and colours of runs: those that a figure was collected with, or those of the project's experiments.yaml."""

import functools
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from mesaopt.errors import InputError
from mesaopt.spec.look import Look, looks_from

Looks = Mapping[str, Look]


@functools.cache
def shipped() -> dict[str, Look]:
    """Those of config/experiments.yaml, by name of run or hand-written algorithm."""
    from mesaopt.spec.plan import looks  # whoever asks which figures there are does not wait for these
    from mesaopt.spec.yaml_files import read_yaml
    from mesaopt.store.environment import PROJECT

    return looks(read_yaml(PROJECT / "config" / "experiments.yaml"))


def recorded(facts: Mapping[str, Any], names: Collection[str]) -> Looks:
    """Those of `names` in the JSON of a figure; of what it does not name, as older ones do not, those of the project."""
    found = looks_from(facts.get("looks", {}), "looks of the figure")
    return found if found.keys() >= set(names) else shipped() | found


def from_json(text: str) -> Looks:
    """Those that the workflow hands over; raises `InputError` in one line for what is no mapping of looks."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"--looks: not JSON ({error})") from None
    return looks_from(content, "--looks")


def to_json(looks: Looks, names: Iterable[str]) -> str:
    """The looks of some runs and algorithms, for `from_json`."""
    return json.dumps({name: looks[name].to_dict() for name in names if name in looks}, sort_keys=True)
