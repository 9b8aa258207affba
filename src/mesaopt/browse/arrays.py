"""Numbers as plotly reads them without parsing text: little-endian single precision, in base64."""

import base64
from collections.abc import Iterable

import numpy as np

#: seven digits, half the size of what tables hold; the tables themselves lie beside the page
DTYPE = "<f4"
Typed = dict[str, str] | list[float]


def typed(values: Iterable[float] | np.ndarray) -> Typed:
    """A vector or a matrix (n, m) as `bdata`, `dtype` and, of a matrix, `shape` ("n, m"); nothing is an empty list."""
    array = np.asarray(values, dtype=DTYPE)
    if not array.size:
        return []
    shape = {"shape": ", ".join(map(str, array.shape))} if array.ndim > 1 else {}
    return {"bdata": base64.b64encode(array.tobytes()).decode(), "dtype": "f4", **shape}


class Positions:
    """The x of many curves, each kept once: curves name theirs by its place."""

    def __init__(self) -> None:
        self._place: dict[bytes, int] = {}
        self.kept: list[Typed] = []

    def place(self, values: np.ndarray) -> int:
        """Where `values` are in `kept`."""
        content = np.asarray(values, dtype=DTYPE).tobytes()
        if content not in self._place:
            self._place[content] = len(self.kept)
            self.kept.append(typed(values))
        return self._place[content]
