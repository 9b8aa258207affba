"""The rooms of the package: imports run down, few files lie loose, tests and helpers have their rooms too."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesaopt.spec.words import FOLDERS

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src/mesaopt"
#: what may be imported stands on a lower floor; rooms of one floor do not know of each other
FLOORS = (
    ("errors",),
    ("spec", "store"),
    ("process", "data", "figures"),
    ("models", "algorithms", "agreement"),
    ("backends", "recording", "browse"),
    ("training",),
    ("analyses",),
    ("stages", "workflow_settings", "settings_pages"),
    ("__main__",),
)
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}


def imports(path: Path) -> Iterator[str]:
    """Rooms of this package that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("mesaopt."))


FILES = sorted(SOURCES.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(SOURCES)) for path in FILES])
def test_imports_run_down(path: Path) -> None:
    room = path.relative_to(SOURCES).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for other in set(imports(path)) - {room}:
        assert FLOOR[other] < FLOOR[room], f"{room} must not import {other}"


def test_few_files_lie_loose() -> None:
    assert len(list(SOURCES.glob("*.py"))) <= 6
    assert {path.name for path in (ROOT / "tests").glob("*.py")} == {"conftest.py"}


def test_figures_and_what_the_workflow_reads_never_import_torch() -> None:
    for room in ("errors.py", "spec", "store", "figures", "workflow_settings.py"):
        files = [SOURCES / room] if room.endswith(".py") else (SOURCES / room).rglob("*.py")
        for path in files:
            if path.name == "drift.py":  # which says what PyTorch was built with, when asked
                continue
            assert not any(word in path.read_text() for word in ("import torch", "from torch")), path


def test_tests_mirror_the_rooms() -> None:
    rooms = {path.name for path in SOURCES.iterdir() if path.is_dir() and path.name != "__pycache__"}
    tested = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert tested - rooms == {"house", "workflow", "benchmarks", "helpers", "golden"} and rooms - tested <= {"analyses"}


@pytest.mark.parametrize("folder", FOLDERS.values())
def test_nobody_asks_for_a_word_by_name(folder: str) -> None:
    """Modules of words are imported by the words of a spec; a static import would make every job depend on one of them."""
    package = "mesaopt." + folder.replace("/", ".")
    for path in FILES:
        if path.is_relative_to(SOURCES / folder):
            continue
        names = [node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not any(name == package or name.startswith(package + ".") for name in names), path
