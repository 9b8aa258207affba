"""A stand-in for apptainer, which cannot be had here: it writes down what it is asked, and runs the job on this machine."""

import os
from pathlib import Path

import pytest

#: an image that is pulled is an empty file
PROGRAM = """#!/bin/bash
echo "$*" >> {folder}/asked
case "$1" in
  --version) echo "apptainer version 1.3.6" ;;
  pull) touch "$3" ;;
  *) for word; do shift; case "$word" in *.simg | *.sif) exec "$@" ;; esac; done; exit 1 ;;
esac
"""


def stand_in(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the programs of a test find an apptainer that writes its calls to `asked` in `folder`."""
    (folder / "bin").mkdir()
    program = folder / "bin/apptainer"
    program.write_text(PROGRAM.format(folder=folder))
    program.chmod(0o755)
    patch.setenv("PATH", str(program.parent), prepend=os.pathsep)


def calls(folder: Path) -> list[str]:
    path = folder / "asked"
    return path.read_text().splitlines() if path.exists() else []


def executed(folder: Path) -> list[str]:
    """The calls that ran something in a container."""
    return [line for line in calls(folder) if " exec " in f" {line}"]
