"""Tokeniser `bpe`: byte-level byte-pair encoding as in GPT-2, of `vocabulary` tokens learned from the training split.

By the package `tokenizers`, which is not among the pinned ones that everything needs (requirements-text.txt).
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mesaopt.data.tokeniser import DTYPE, Tokeniser, Vocabulary
from mesaopt.errors import InputError
from mesaopt.spec.text import Text

END = "<|endoftext|>"
#: characters of the training split that a vocabulary is learned from: more changes little, and memory stays bounded
LEARNED_FROM = 100_000_000


def library() -> Any:
    """The package `tokenizers`, with one thread; raises `InputError` where it is not installed."""
    os.environ["TOKENIZERS_PARALLELISM"], os.environ["RAYON_NUM_THREADS"] = "false", "1"
    try:
        import tokenizers
    except ImportError:
        raise InputError("byte-pair encoding needs the package tokenizers: pip install -r requirements-text.txt") from None
    return tokenizers


def make(text: Text, texts: Iterable[str], package: Path | None, out: Path) -> None:
    """Learned from the first `LEARNED_FROM` characters; the same texts give the same vocabulary."""
    if not 257 <= text.vocabulary <= 65536:
        raise InputError(f"text {text.name}: vocabulary of bpe must be from 257 to 65536, not {text.vocabulary}")
    tokenizers = library()
    learned = byte_level(tokenizers, tokenizers.models.BPE())
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=text.vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    learned.train_from_iterator(_first(texts), trainer)
    learned.save(str(out))


def _first(texts: Iterable[str]) -> Iterator[str]:
    left = LEARNED_FROM
    for one in texts:
        yield one[:left]
        left -= len(one)
        if left <= 0:
            return


def byte_level(tokenizers: Any, model: Any) -> Any:
    """GPT-2's way from text to pieces and back, around a model of pairs."""
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    return made


def load(path: Path) -> Vocabulary:
    """From the library's own format; raises `InputError` for any other file."""
    try:
        read = library().Tokenizer.from_file(str(path))
    except InputError:
        raise
    except Exception as error:  # the library has no kind of error of its own
        raise InputError(f"{path}: not a vocabulary of the package tokenizers ({error})") from None

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        plain = [one.encode("utf-8", "replace").decode() for one in texts]  # without lone surrogates
        return [np.array(found.ids, dtype=DTYPE) for found in read.encode_batch(plain, add_special_tokens=False)]

    end = read.token_to_id(END)
    if end is None:
        raise InputError(f"{path}: a vocabulary without {END}")
    return Vocabulary(read.get_vocab_size(), end, encode)


TOKENISER = Tokeniser(make, load)
