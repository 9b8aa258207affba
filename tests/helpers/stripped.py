"""A copy of the package in which everything is missing that some job does not depend on."""

import shutil
from pathlib import Path

from mesaopt.store.fingerprint import SOURCES, WITHOUT_NUMBERS


def stripped(folder: Path, modules: set[str]) -> Path:
    """`folder`, with a `mesaopt` of `modules`, the kernel's sources, the command line and the rooms that never count alone."""
    for path in SOURCES.rglob("*"):
        if path.is_dir() or "__pycache__" in path.parts:
            continue
        parts = path.relative_to(SOURCES).with_suffix("").parts
        name = ".".join(["mesaopt", *parts]).removesuffix(".__init__")
        wanted = (
            name in modules
            or parts[0] in WITHOUT_NUMBERS
            or name in ("mesaopt", "mesaopt.__main__")
            or path.suffix in (".cpp", ".h")
        )
        if wanted:
            target = folder / "mesaopt" / path.relative_to(SOURCES)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return folder
