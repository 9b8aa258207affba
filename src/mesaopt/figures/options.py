"""Options of style that users may set (config/config.yaml, `style`). Light: the workflow checks them whenever it is read."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from mesaopt.errors import InputError, unknown

SPLITS = ("in_sample", "held_out")
FORMS = ("published", "textbook")
#: what the options that are words may be
WORDS = {"probe_split": SPLITS, "probe_form": FORMS}


@dataclass(frozen=True)
class Style:
    """How figures look; nothing here changes a number.

    Lengths: `width` in inches, `font_size` and `line_width` in points; `dpi` matters for PNG alone. `band` draws one standard
    deviation over seeds; `probe_split` chooses probes scored on the sequences they were fitted on (as published) or on others,
    `probe_form` by which recursion the preconditioned input that they look for is made.
    """

    width: float | int = 7.0
    dpi: int = 200
    font_size: float | int = 7.5
    line_width: float | int = 1.3
    band: bool = True
    grid: bool = True
    small_print: bool = True
    probe_split: str = "in_sample"
    probe_form: str = "published"

    @classmethod
    def from_dict(cls, values: object) -> "Style":
        """Raises `InputError` in one line unless `values` is a mapping of known options with possible values."""
        if not isinstance(values, Mapping):
            raise InputError(f"style: must be a mapping of options, not {values!r}")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for key, value in values.items():
            if key not in fields:
                raise InputError(f"style: {unknown(key, 'option', list(fields))}")
            _check(key, fields[key].default, value)
        return cls(**values)


#: smallest and largest value of the options that are numbers
LIMITS = {"width": (2.0, 40.0), "dpi": (30, 1200), "font_size": (3.0, 30.0), "line_width": (0.1, 10.0)}


def _check(key: str, default: object, value: object) -> None:
    if isinstance(default, bool):
        good, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, str):
        good, wanted = value in WORDS[key], f"one of {', '.join(WORDS[key])}"
    else:
        lowest, highest = LIMITS[key]
        kind, noun = (int, "a whole number") if isinstance(default, int) else (int | float, "a number")
        number = isinstance(value, kind) and not isinstance(value, bool)
        good, wanted = number and lowest <= value <= highest, f"{noun} from {lowest} to {highest}"  # type: ignore[operator]
    if not good:
        raise InputError(f"style: {key} must be {wanted}, not {value!r}")
