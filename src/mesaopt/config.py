"""Reading and checking of the configuration, with one line for each mistake."""

import difflib
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


def check(values: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` for the first thing in `values` that the JSON schema refuses."""
    errors = sorted(jsonschema.Draft202012Validator(schema).iter_errors(values), key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        raise InputError(_one_line(errors[0], where))


def _one_line(error: jsonschema.ValidationError, where: str) -> str:
    place = ": ".join([where, *map(str, error.absolute_path)])
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        key = next(key for key in error.instance if key not in known)
        near = difflib.get_close_matches(str(key), known, n=1)
        return f"{place}: unknown key {key!r}: " + (f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}")
    if error.validator == "enum":
        return f"{place}: {error.instance!r} is not one of {', '.join(map(str, error.validator_value))}"
    description = f" ({error.schema['description']})" if isinstance(error.schema, Mapping) and "description" in error.schema else ""
    return f"{place}: {error.message}{description}"
