"""Reading and checking of the configuration, with one line for each mistake.

What only reads does not wait for `jsonschema`, which takes longer to import than a figure's labels to read.
"""

import functools
import math
import re
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mesaopt.errors import InputError, unknown

#: the one written in C, which is ten times faster, where libyaml is there
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):
    """YAML in which no mapping may say a key twice; plain YAML keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen |= {key.value} if isinstance(key, yaml.ScalarNode) else set()
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


def read_yaml(path: Path) -> dict[str, Any]:
    """Raises `InputError` in one line when the file is missing, not a YAML mapping, or has a key twice in one place."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 (byte {error.start})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a mapping")
    return content


_WORDS = {"true": True, "false": False, "null": None}


def typed(value: Any) -> Any:
    """`value` with numbers, true, false and null in place of their spellings, numbers in place of those of keys.

    Snakemake hands the inside of `--config 'seeds=[1,11]'` over as text, and YAML takes 2e-4 for text anywhere.
    """
    if isinstance(value, Mapping):
        return {_number(key) if isinstance(key, str) else key: typed(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [typed(entry) for entry in value]
    if isinstance(value, str):
        number = _number(value)
        return _WORDS.get(value, value) if number is value else number
    return value


def _number(text: str) -> Any:
    """The number that is spelled, or the text."""
    if re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text):
        return float(text)
    return text


def _is_whole(checker: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@functools.cache
def _validator() -> Any:
    """JSON schema takes 2.0 for an integer; what is a count here must be one in Python too."""
    import jsonschema

    whole = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_whole)
    return jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=whole)


def check(values: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` for the first thing in `values` that the JSON schema refuses, or that is not a finite number."""
    found = _validator()(schema).iter_errors(values)
    errors = sorted(found, key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        raise InputError(_one_line(errors[0], where))
    for place, number in _numbers(values, where):
        if not math.isfinite(number):
            raise InputError(f"{place}: must be a finite number, not {number}")


def _numbers(values: Any, where: str) -> Iterator[tuple[str, float]]:
    if isinstance(values, float):
        yield where, values
    elif isinstance(values, Mapping | list):
        for key, value in values.items() if isinstance(values, Mapping) else enumerate(values):
            yield from _numbers(value, f"{where}: {key}")


def _closeness(error: Any) -> tuple[int, bool, bool]:
    """A failure deep inside, or one of a value rather than of a type, tells the user most."""
    return len(error.absolute_path), error.validator not in ("type", "const"), error.validator_value != "null"


def _one_line(error: Any, where: str) -> str:
    described = error.schema
    place = ": ".join([where, *map(str, error.absolute_path)])
    while error.context:  # none of several allowed forms: what is wrong with the one that came closest
        error = max(error.context, key=_closeness)
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        key = next(key for key in error.instance if key not in known)
        return f"{place}: {unknown(key, 'key', known)}"
    if error.validator == "enum":
        return f"{place}: {error.instance!r} is not one of {', '.join(map(str, error.validator_value))}"
    if error.validator == "type" and error.validator_value == "array" and isinstance(error.instance, str | int | float):
        path = list(map(str, error.absolute_path))
        how = f"{path[0]}=" if len(path) == 1 else ""  # as after --config
        return f"{': '.join([where, *path])}: {error.instance!r} is no list: write {how}[{error.instance}]"
    description = f" ({described['description']})" if isinstance(described, Mapping) and "description" in described else ""
    return f"{place}: {error.message}{description}"
