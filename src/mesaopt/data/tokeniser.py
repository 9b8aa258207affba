"""What a file in `tokenisers` calls TOKENISER: how a vocabulary is made of a training text, kept in a file, and used."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mesaopt.spec.text import Text
from mesaopt.spec.words import module

#: of all tokens in files; so a vocabulary has at most 65536
DTYPE = np.dtype("<u2")


@dataclass(frozen=True)
class Vocabulary:
    """`size` tokens, of which `end` stands after every document. `encode` gives the tokens of several texts."""

    size: int
    end: int
    encode: Callable[[Sequence[str]], list[np.ndarray]]


@dataclass(frozen=True)
class Tokeniser:
    """`make` writes the file of a vocabulary that suits the texts of the training split (streamed; given the package, if it has
    one), `load` reads it. Raises `InputError` where a vocabulary cannot be had.
    """

    make: Callable[[Text, Iterable[str], Path | None, Path], None]
    load: Callable[[Path], Vocabulary]
    package: str = ""


def tokeniser_called(name: str) -> Tokeniser:
    """The tokeniser that a spec names; raises `InputError` when there is no such file."""
    found: Tokeniser = module("tokeniser", name).TOKENISER
    return found
