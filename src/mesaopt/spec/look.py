"""How figures call a run or hand-written algorithm, and how they draw it: what its entry in experiments.yaml says of it.

None of this is part of a run's identity: another colour retrains nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mesaopt.errors import InputError, unknown

#: keys of an entry that say how it looks
KEYS = ("label", "family", "colour", "line", "panels")
#: families of lines; figures.style gives each its colours
FAMILIES = (
    "linear",
    "softmax",
    "mesa",
    "hybrid",
    "linear-mesa",
    "full-mesa",
    "gd",
    "proposition2",
    "proposition2-nonlinear",
    "lsq",
    "compression",
    "interpolation",
    "other",
)
LINES = ("solid", "dashed", "dotted", "dashdot")
#: families of what has kinds of layers (from the first to the last, each once), or an algorithm, of another name
_OTHER_NAMES = {"softmax-mesa": "hybrid", "chebyshev": "proposition2"}


@dataclass(frozen=True)
class Look:
    """`label` is the name of its curves. `family` gives colour and line, `depth` (layers) the shade: the deeper, the darker.

    `colour` (#rrggbb) and `line` are instead of those of the family. `panels` are those (figure/panel) that a run joins.
    """

    label: str
    family: str = "other"
    depth: int = 1
    colour: str = ""
    line: str = ""
    panels: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, entry: Mapping[str, Any]) -> "Look":
        """The look of entry `name`. Without a label it is called by its short name, without a family by its kinds of layers.

        Raises `InputError` in one line that begins with `name` for what is no label, family, colour or line.
        """
        layers = list(entry["model"]["layers"]) if "model" in entry else []
        given = {key: entry[key] for key in KEYS if key in entry}
        for key, value in given.items():
            _check(f"{name}: {key}", key, value)
        family = _family(layers or [entry.get("algorithm")])
        found: dict[str, Any] = {"label": short_name(name), "family": family, "depth": max(1, len(layers))}
        return cls(**found | given | {"panels": tuple(given.get("panels", ()))})

    def to_dict(self) -> dict[str, Any]:
        """What differs from the defaults."""
        return {key: value for key, value in asdict(self).items() if value != getattr(Look, key, None)}


def looks_from(content: object, where: str) -> dict[str, Look]:
    """Name -> look, as `Look.to_dict` wrote them; raises `InputError` in one line that begins with `where` for anything else."""
    try:
        tupled = {name: {**of, "panels": tuple(of.get("panels", ()))} for name, of in content.items()}  # type: ignore[attr-defined]
        return {str(name): Look(**of) for name, of in tupled.items()}
    except (AttributeError, TypeError):
        raise InputError(f"{where}: must be a mapping from names to label, family, depth, colour, line, panels") from None


def short_name(name: str) -> str:
    """`lsa-d6` of `linear/lsa-d6`."""
    return name.rpartition("/")[2]


def without_look(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry says of the run itself."""
    return {key: value for key, value in entry.items() if key not in KEYS}


def _family(kinds: list[Any]) -> str:
    kind = "-".join(str(kind) for kind in dict.fromkeys(kinds))
    family = _OTHER_NAMES.get(kind, kind)
    return family if family in FAMILIES else "other"


def _check(where: str, key: str, value: object) -> None:
    if key == "panels":
        if not isinstance(value, list) or not all(isinstance(name, str) and "/" in name for name in value):
            raise InputError(f"{where} must be a list of FIGURE/PANEL, not {value!r}")
        return
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} must be text, not {value!r}")
    known = {"family": FAMILIES, "line": LINES}.get(key)
    if known is not None and value not in known:
        raise InputError(f"{where}: {unknown(value, key, list(known))}")
    if key == "colour" and not re.fullmatch("#[0-9a-fA-F]{6}", value):
        raise InputError(f"{where} must be #rrggbb, in quotes, not {value!r}")
    if key == "label" and (stray := re.search(r"[{}\n]", value)):
        raise InputError(f"{where} {value!r}: {stray[0]!r} has no place in it; {{depth}} stands for a depth of a sweep alone")
