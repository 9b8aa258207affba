"""Sequences of a text: random places of its tokens, mapped into memory, so that a text may be larger than that.

Where a sequence begins is a pure function of (seed, stream, step), as all that is drawn; it may begin within a document, and
documents follow one another.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from mesaopt.data.random import generator
from mesaopt.data.shards import read_facts
from mesaopt.data.tokeniser import DTYPE
from mesaopt.errors import InputError
from mesaopt.spec.text import Text
from mesaopt.store.disk import sha256

#: a text of more bytes is not read through at every start; that its files have their sizes is checked of any
CHECKED = 2**30


class Tokens:
    """One split of a text on disk."""

    def __init__(self, path: Path, split: str, text: Text) -> None:
        """From `path` (FOLDER/tokens.json). Raises `InputError` when it is another text's, or files are missing or damaged."""
        facts = read_facts(path)
        if Text.from_dict(facts["text"] | {"context_length": text.context_length}) != text:
            raise InputError(f"{path}: the tokens of another text than {text.name} is now; delete it and run again")
        self.length = text.context_length
        self.vocabulary_size: int = facts["vocabulary"]["size"]
        self.total: int = facts["splits"][split]["tokens"]
        shards = facts["splits"][split]["shards"]
        #: of all tokens of the split
        self.digest = hashlib.sha256("".join(shard["sha256"] for shard in shards).encode()).hexdigest()
        self.parts = [_mapped(path.parent / shard["file"], shard, 2 * self.total <= CHECKED) for shard in shards]
        #: places where a sequence may begin, up to the end of every file
        self.ends = np.cumsum([max(0, len(part) - self.length) for part in self.parts])

    def windows(self, seed: int, stream: str, index: int, count: int) -> Int64[Tensor, "batch time_plus_1"]:
        """`count` sequences of context_length + 1 tokens, from places that are drawn anew for every index."""
        places = generator(seed, stream, index).integers(0, int(self.ends[-1]), size=count)
        return torch.from_numpy(np.stack([self._window(int(place)) for place in places]).astype(np.int64))

    def _window(self, place: int) -> np.ndarray:
        part = int(np.searchsorted(self.ends, place, side="right"))
        start = place - int(self.ends[part - 1] if part else 0)
        return self.parts[part][start : start + self.length + 1]


def _mapped(path: Path, shard: dict[str, object], checked: bool) -> np.ndarray:
    try:
        size = path.stat().st_size
        damaged = size != DTYPE.itemsize * int(str(shard["tokens"])) or (checked and sha256(path) != shard["sha256"])
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); delete tokens.json beside it and run again") from None
    if damaged:
        raise InputError(f"{path}: damaged, not what was written; delete tokens.json beside it and run again")
    return np.memmap(path, dtype=DTYPE, mode="r")


def repeated(vocabulary_size: int, length: int, count: int, seed: int) -> Int64[Tensor, "batch time_plus_1"]:
    """Random tokens, and then the same ones again: only what looks back can predict the second half (a control of this project).

    Sequences of `length` + 1 tokens, of which the second half repeats the first (length + 1) // 2.
    """
    half = -(-(length + 1) // 2)
    first = generator(seed, "repeated").integers(0, vocabulary_size, size=(count, half))
    return torch.from_numpy(np.concatenate([first, first], axis=1)[:, : length + 1].astype(np.int64))
