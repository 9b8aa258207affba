"""Damaged results are found before they are used: every table and weights file has the SHA-256 that it was written with.

That of `folder/name` is in `folder/.name.sha256`, but outside folders of figure tables, which others scan as a whole: that of
`results/{scale}/tables/NAME` is in `results/{scale}/.digests/tables/NAME.sha256`. A file without one (from elsewhere) is not
checked.
"""

import os
from pathlib import Path

from mesaopt.errors import InputError
from mesaopt.store.disk import sha256, sync_folder

_SUFFIXES = (".parquet", ".safetensors")


def digest_path(path: Path) -> Path:
    """Where the digest of the file at `path` is kept."""
    whole = Path(os.path.abspath(path))
    tables = next(
        (folder for folder in whole.parents if folder.name == "tables" and folder.parent.parent.name == "results"), None
    )
    if tables is None:
        return beside(path)
    return tables.parent / ".digests" / "tables" / f"{whole.relative_to(tables)}.sha256"


def beside(path: Path) -> Path:
    """Where older versions kept every digest, which they may have written last."""
    return path.with_name(f".{path.name}.sha256")


def write_digest(path: Path, content: Path) -> None:
    """Keep the digest of `content`, which is about to become `path`; of tables and weights only."""
    if path.suffix in _SUFFIXES:
        place = digest_path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{content.name}.sha256")
        try:
            with open(temporary, "w") as file:
                file.write(sha256(content) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, place)
            if place.parent != path.parent:  # that of the file itself follows its own new name
                sync_folder(place.parent)
        finally:
            temporary.unlink(missing_ok=True)
        if place != beside(path):
            beside(path).unlink(missing_ok=True)


def forget_digest(path: Path) -> None:
    """Of a file that is no more."""
    for place in (digest_path(path), beside(path)):
        place.unlink(missing_ok=True)


def require_intact(path: Path) -> None:
    """Raise `InputError` when `path` is not what was written, and set it aside, so that the same command makes it again."""
    try:
        written = {place.read_text().strip() for place in (digest_path(path), beside(path)) if place.exists()}
        intact = not written or sha256(path) in written
    except FileNotFoundError:  # who reads it says so
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not intact:
        aside = path.with_name(f"_{path.name}.damaged")  # readers of a folder of tables pass over what begins so
        os.replace(path, aside)
        raise InputError(f"{path}: damaged, not what was written; kept as {aside.name}; run again to make it anew")
