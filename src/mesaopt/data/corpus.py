"""What a file in `corpora` calls CORPUS: documents one by one, so that memory does not grow with a corpus.

Near-copies (versions of one manual, say) belong to one family, and a family is either trained on or held back as a whole.
"""

import hashlib
import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesaopt.spec.text import Text
from mesaopt.spec.words import module

#: shorter strings of a package are names rather than text
SHORTEST = 40
_BLOCKS = re.compile(r"</?(?:p|br|li|ul|ol|dt|dd|dl|h\d|div|tr|table|note|important|pre)\b[^>]*>", flags=re.IGNORECASE)
_TAGS = re.compile(r"</?[a-zA-Z][^>]*>")


@dataclass(frozen=True)
class Document:
    """Text, and the family that it belongs to; a long one may come in pieces, of which one is the `last`."""

    family: str
    text: str
    last: bool = True


@dataclass(frozen=True)
class Corpus:
    """`documents` reads them in an order that is always the same; its `package` (a name of data.packages), where it is in one,
    lies at the path that is given. Raises `InputError` in one line for what is no text.
    """

    documents: Callable[[Text, Path | None], Iterator[Document]]
    package: str = ""


def corpus_called(name: str) -> Corpus:
    """The corpus that a spec names; raises `InputError` when there is no such file."""
    found: Corpus = module("corpus", name).CORPUS
    return found


def held_back(family: str, share: float) -> bool:
    """Whether a family is in the validation split: by its name alone, so that no other document changes it."""
    number = int.from_bytes(hashlib.sha256(family.encode()).digest()[:8], "little")
    return number < share * 2**64


class Once:
    """Strings that were not there before; what stands twice, in whatever document, is text once."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def __call__(self, text: str) -> bool:
        key = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).digest()
        new = key not in self._seen
        self._seen.add(key)
        return new


def strings_under(key: str, value: Any) -> Iterator[str]:
    """Every string that stands under `key` somewhere in what JSON holds, in its order."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key and isinstance(inner, str):
                yield inner
            else:
                yield from strings_under(key, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_under(key, inner)


def plain_text(markup: str) -> str:
    """Without tags and entities; blocks are lines."""
    text = html.unescape(_TAGS.sub("", _BLOCKS.sub("\n", markup)))
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def joined(strings: Iterator[str], new: Once) -> str:
    """A document of those that are long enough and not there yet."""
    texts = (plain_text(string) for string in strings)
    return "\n\n".join(text for text in texts if len(text) >= SHORTEST and new(text))
