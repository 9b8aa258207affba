"""A process without a home or a name: a container under a number that nobody has, say, or a home that cannot be written to.

Libraries ask for both (matplotlib, torch, Snakemake) and some end with a traceback when there is none.
"""

import getpass
import os
import stat
import tempfile
from pathlib import Path

from mesaopt.errors import InputError


def with_a_home() -> None:
    """This process and those it starts get a name, a home, and folders for what libraries keep, where they lack them.

    What is there stays. Raises `InputError` where there is not even a folder for temporary files.
    """
    if not _has_name():
        os.environ["LOGNAME"] = f"uid-{os.getuid()}"
    home = _home()
    if home is None:
        home = temporary_home()
        os.environ["HOME"] = str(home)
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    for name, usual in (("XDG_CACHE_HOME", home / ".cache"), ("MPLCONFIGDIR", config / "matplotlib")):
        if not os.environ.get(name) and not _can_write(usual):
            os.environ[name] = str(temporary_home() / usual.name)


def cache_folder() -> Path:
    """Where this project keeps files between processes: $XDG_CACHE_HOME/mesaopt, ~/.cache/mesaopt, or a temporary folder.

    Raises `InputError` where there is none.
    """
    if asked := os.environ.get("XDG_CACHE_HOME"):
        return Path(asked) / "mesaopt"
    home = _home()
    usual = None if home is None else home / ".cache"
    return (usual if usual is not None and _can_write(usual) else temporary_home() / ".cache") / "mesaopt"


def require_cache() -> None:
    """Raise `InputError`, in one line, unless files can be made in the folder of `cache_folder`."""
    folder = cache_folder()
    if not _can_write(folder):
        raise InputError(f"no files can be made in {folder} (it follows XDG_CACHE_HOME and HOME)")


def temporary_home() -> Path:
    """A folder of this user alone among the temporary files, the same for every process: code is loaded from it.

    Raises `InputError` when it cannot be made, or when somebody else may write to it.
    """
    try:
        path = Path(tempfile.gettempdir()) / f"mesaopt-{os.getuid()}"
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise InputError(f"no home, and none can be made among the temporary files ({error}): set HOME or TMPDIR") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise InputError(f"no home, and {path}, to be used instead, is not this user's alone: set HOME or TMPDIR")
    return path


def _has_name() -> bool:
    try:
        return bool(getpass.getuser())
    except (KeyError, OSError, ImportError):
        return False


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None


def _can_write(path: Path) -> bool:
    """Whether files can be made at `path`, which need not exist."""
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
