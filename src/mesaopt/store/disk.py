"""Files as the disk has them: their digest, and what makes it certain that they are there. Light: no table is read here."""

import errno
import hashlib
import os
from pathlib import Path


def sha256(path: Path) -> str:
    """Of the content, in hex. Raises `OSError`."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Let what a file or folder holds reach the disk. Raises `OSError`."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Let names in `folder` reach the disk, which a rename alone does not promise. Raises `OSError`."""
    try:
        sync(folder)
    except OSError as error:
        # file systems that cannot do this for a folder say EINVAL; there is no more to be done there
        if error.errno != errno.EINVAL:
            raise
