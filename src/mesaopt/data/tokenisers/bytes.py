"""Tokeniser `bytes`: the bytes of UTF-8, and one token for the end of a document."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mesaopt.data.tokeniser import DTYPE, Tokeniser, Vocabulary
from mesaopt.errors import InputError
from mesaopt.spec.text import Text

SIZE, END = 257, 256


def make(text: Text, texts: Iterable[str], package: Path | None, out: Path) -> None:
    """There is nothing to learn; the file says so."""
    if text.vocabulary not in (0, SIZE):
        raise InputError(f"text {text.name}: the tokeniser bytes has {SIZE} tokens, not vocabulary {text.vocabulary}")
    out.write_text(json.dumps({"tokeniser": "bytes", "size": SIZE, "end": END}) + "\n")


def encode(texts: Sequence[str]) -> list[np.ndarray]:
    """A lone surrogate, which UTF-8 has no bytes for, becomes a question mark."""
    return [np.frombuffer(one.encode("utf-8", "replace"), np.uint8).astype(DTYPE) for one in texts]


TOKENISER = Tokeniser(make, lambda path: Vocabulary(SIZE, END, encode))
