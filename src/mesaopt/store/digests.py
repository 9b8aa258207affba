"""Damaged results are found before they are used: beside every table and weights file lies the SHA-256 that it was written with.

The digest of `folder/name` is in `folder/.name.sha256`. A file without one (from elsewhere) is not checked.
"""

import hashlib
import os
from pathlib import Path

from mesaopt.errors import InputError

_SUFFIXES = (".parquet", ".safetensors")


def digest_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")


def write_digest(path: Path, content: Path) -> None:
    """Keep the digest of `content`, which is about to become `path`; of tables and weights only."""
    if path.suffix in _SUFFIXES:
        temporary = content.with_name(f"{content.name}.sha256")
        try:
            temporary.write_text(_digest(content) + "\n")
            os.replace(temporary, digest_path(path))
        finally:
            temporary.unlink(missing_ok=True)


def require_intact(path: Path) -> None:
    """Raise `InputError` when `path` is not what was written, and set it aside, so that the same command makes it again."""
    try:
        intact = digest_path(path).read_text().strip() == _digest(path)
    except FileNotFoundError:  # of either: who reads it says so if it is the file
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not intact:
        aside = path.with_name(f"{path.name}.damaged")
        os.replace(path, aside)
        raise InputError(f"{path}: damaged, not what was written; kept as {aside.name}; run again to make it anew")


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
