"""Names of series, as figures and tables of losses use them."""

import re

from mesaopt.errors import InputError

_LAYERS = {"lsa": "LSA", "mesa": "Mesa"}
_ALGORITHMS = {
    "gd1": "GD-1",
    "gd1-learned": "GD-1, learned",
    "proposition2": "Proposition 2",
    "proposition2-published": "Proposition 2 (published form)",
    "lsq": "LSQ",
}


def label(name: str) -> str:
    """Series name of a run or hand-written algorithm: `linear/lsa-d6-second` is LSA-6, `linear/gd1` is GD-1.

    Raises `InputError` for a name of another form.
    """
    short = name.rpartition("/")[2]
    if match := re.fullmatch(r"(lsa|mesa)-d(\d+)(-.+)?", short):
        return f"{_LAYERS[match[1]]}-{match[2]}"
    if short not in _ALGORITHMS:
        raise InputError(
            f"no series name for {name!r}: expected task/lsa-dN, task/mesa-dN or task/ one of {', '.join(_ALGORITHMS)}"
        )
    return _ALGORITHMS[short]
