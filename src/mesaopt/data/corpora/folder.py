"""Corpus `folder`: a text of one's own, such as the Pile: *.jsonl, *.jsonl.zst, *.parquet and *.txt below `path`.

Files are read in the order of their names, a document at a time, so that memory is bounded whatever their size. Nothing is known
of what belongs together: every document is a family of its own, by its content, so that copies fall on one side. A text file is
one document.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mesaopt.data.corpus import Corpus, Document
from mesaopt.errors import InputError, unknown
from mesaopt.spec.text import Text

#: bytes read at a time, and characters of a piece of a text file
PIECE = 2**20
#: a line beyond this is no document
LONGEST = 2**28
_ENDINGS = (".jsonl", ".jsonl.zst", ".parquet", ".txt")


def documents(text: Text, package: Path | None) -> Iterator[Document]:
    """Raises `InputError` for a folder without such files, and for the first document that is damaged or empty."""
    folder = Path(text.path)
    if not text.path or not folder.is_dir():
        raise InputError(f"text {text.name}: path: {text.path or 'none given'}: no folder of text")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name.endswith(_ENDINGS))
    if not files:
        raise InputError(f"{folder}: no file ending in {', '.join(_ENDINGS)}")
    for path in files:
        if path.suffix == ".txt":
            yield from _pieces(path)
        else:
            rows = _rows(path, text.column) if path.suffix == ".parquet" else _lines(path, text.column)
            for place, found in rows:
                if not isinstance(found, str):
                    raise InputError(f"{path}: {place}: {text.column!r} is no text but {type(found).__name__}")
                if not found.strip():
                    raise InputError(f"{path}: {place}: an empty document")
                yield Document(hashlib.sha256(found.encode("utf-8", "replace")).hexdigest(), found)


def _pieces(path: Path) -> Iterator[Document]:
    try:
        with open(path, "rb") as raw:
            family = hashlib.file_digest(raw, "sha256").hexdigest()
        with open(path, encoding="utf-8") as file:
            piece, begun = file.read(PIECE), False
            while piece:
                following = file.read(PIECE)
                if not begun and not following and not piece.strip():
                    break
                yield Document(family, piece, last=not following)
                piece, begun = following, True
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 ({error.reason})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not begun:
        raise InputError(f"{path}: an empty document")


def _rows(path: Path, column: str) -> Iterator[tuple[str, object]]:
    try:
        with pq.ParquetFile(path) as file:
            if column not in file.schema_arrow.names:
                raise InputError(f"{path}: {unknown(column, 'column', file.schema_arrow.names)}")
            row = 0
            for batch in file.iter_batches(batch_size=64, columns=[column], use_threads=False):
                for found in batch.column(0).to_pylist():
                    row += 1
                    yield f"row {row}", found
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _lines(path: Path, column: str) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(_raw_lines(path), 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            raise InputError(f"{path}: line {number}: not text in UTF-8") from None
        except ValueError as error:
            raise InputError(f"{path}: line {number}: not JSON ({error})") from None
        if not isinstance(content, dict):
            raise InputError(f"{path}: line {number}: no JSON object")
        if column not in content:
            raise InputError(f"{path}: line {number}: {unknown(column, 'column', list(content))}")
        yield f"line {number}", content[column]


def _raw_lines(path: Path) -> Iterator[bytes]:
    kept = b""
    try:
        with pa.input_stream(str(path), compression="zstd" if path.suffix == ".zst" else None) as stream:
            while part := stream.read(PIECE):
                *whole, kept = (kept + part).split(b"\n")
                yield from whole
                if len(kept) > LONGEST:
                    raise InputError(f"{path}: a line of more than {LONGEST} bytes is no document")
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    if kept:
        yield kept


CORPUS = Corpus(documents)
