"""Compiled libraries that are kept for the next time, each beside its SHA-256: a damaged one is found before it is loaded.

Loading half a library ends the process with a signal. The library reaches the disk first, then its digest: whenever the power
fails, what is left is a whole library, or one without a digest, which counts as not there.
"""

import contextlib
import os
import sys
from pathlib import Path

from mesaopt.store.disk import sha256, sync, sync_folder


def digest_path(path: Path) -> Path:
    """Where the digest of the library at `path` lies."""
    return path.with_name(f"{path.name}.sha256")


def is_kept(path: Path) -> bool:
    """Whether a library lies at `path` as it was compiled; a damaged one is named in one line on standard error.

    Raises `OSError` when it cannot be read.
    """
    try:
        written = digest_path(path).read_text(errors="replace").strip()
        found = sha256(path)
    except FileNotFoundError:  # of either: never finished
        return False
    if written == found:
        return True
    print(f"mesaopt: {path} is damaged, not what was compiled: built anew", file=sys.stderr, flush=True)
    return False


def keep(unfinished: Path, path: Path) -> None:
    """The file at `unfinished`, on the same file system, becomes the library at `path`. Raises `OSError` as the disk does."""
    digest = unfinished.with_name(f"{unfinished.name}.sha256")
    digest.write_text(sha256(unfinished) + "\n")
    digest_path(path).unlink(missing_ok=True)
    for source, target in ((unfinished, path), (digest, digest_path(path))):
        sync(source)
        os.replace(source, target)
        with contextlib.suppress(OSError):  # some network file systems refuse it for folders
            sync_folder(target.parent)
