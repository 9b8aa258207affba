"""What git says of a folder, or in its own words why it says nothing."""

import os
import re
import subprocess
from pathlib import Path

#: what git exports into its hooks, and what else makes it look at another repository than that of the folder
_MISLEADING = re.compile(
    "GIT_(DIR|WORK_TREE|IMPLICIT_WORK_TREE|INDEX_FILE|COMMON_DIR|PREFIX|NAMESPACE|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES"
    "|GRAFT_FILE|SHALLOW_FILE|NO_REPLACE_OBJECTS|REPLACE_REF_BASE|CONFIG|CONFIG_PARAMETERS|INTERNAL_.*|.*_PATHSPECS)"
)


class GitError(Exception):
    """Git gave no answer; the message is git's own, in one line."""


def git(folder: Path, *arguments: str) -> str:
    """What `git ARGUMENTS` prints about the work tree of `folder`; writes nothing there. Raises `GitError`.

    Whatever the variables of a hook that this process was started by say, it is the repository that `folder` lies in.
    """
    environment = {name: value for name, value in os.environ.items() if not _MISLEADING.fullmatch(name)}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, env=environment)
    except OSError as error:
        raise GitError(f"git cannot be run ({error.strerror})") from None
    if done.returncode != 0:
        raise GitError(_words(done.stderr.decode(errors="replace")) or f"git ended with status {done.returncode}")
    return done.stdout.decode(errors="replace")


def changes(folder: Path, *paths: str) -> list[str]:
    """Lines of `git status` about files below `folder` (of `paths` alone, if any are given); raises `GitError`."""
    return git(folder, "status", "--porcelain", "--untracked-files=normal", "--", *(paths or ["."])).splitlines()


def _words(message: str) -> str:
    """The first line that says what is wrong: advice comes after it, traces before it."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith(("fatal:", "error:"))), " ".join(lines[:1]))
