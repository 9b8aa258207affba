"""Reading and checking of the configuration, with one line for each mistake."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from mesaopt.errors import InputError


def read_yaml(path: Path) -> dict[str, Any]:
    """Raises `InputError` in one line when the file is missing or not a YAML mapping."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a mapping")
    return content


_WORDS = {"true": True, "false": False, "null": None}


def typed(value: Any) -> Any:
    """`value` with numbers, true, false and null in place of their spellings.

    Snakemake hands the inside of `--config 'seeds=[1,11]'` over as text, and YAML takes 2e-4 for text anywhere.
    """
    if isinstance(value, Mapping):
        return {key: typed(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [typed(entry) for entry in value]
    if isinstance(value, str):
        if re.fullmatch(r"[-+]?\d+", value):
            return int(value)
        if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value):
            return float(value)
        return _WORDS.get(value, value)
    return value


def check(values: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` for the first thing in `values` that the JSON schema refuses."""
    found = jsonschema.Draft202012Validator(schema).iter_errors(values)
    errors = sorted(found, key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        raise InputError(_one_line(errors[0], where))


def _closeness(error: jsonschema.ValidationError) -> tuple[int, bool, bool]:
    """A failure deep inside, or one of a value rather than of a type, tells the user most."""
    return len(error.absolute_path), error.validator not in ("type", "const"), error.validator_value != "null"


def _one_line(error: jsonschema.ValidationError, where: str) -> str:
    described = error.schema
    place = ": ".join([where, *map(str, error.absolute_path)])
    while error.context:  # none of several allowed forms: what is wrong with the one that came closest
        error = max(error.context, key=_closeness)
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        key = next(key for key in error.instance if key not in known)
        near = difflib.get_close_matches(str(key), known, n=1)
        return f"{place}: unknown key {key!r}: " + (f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}")
    if error.validator == "enum":
        return f"{place}: {error.instance!r} is not one of {', '.join(map(str, error.validator_value))}"
    description = f" ({described['description']})" if isinstance(described, Mapping) and "description" in described else ""
    return f"{place}: {error.message}{description}"
