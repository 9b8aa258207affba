"""The code fingerprint follows what code does, not how it is written; provenance says where and from what."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mesaopt.store.environment import versions
from mesaopt.store.provenance import code_fingerprint, commit, provenance, write_json

PACKAGE = {
    "__init__.py": '__version__ = "1"',
    "errors.py": "class InputError(ValueError):\n    pass\n",
    "train.py": "import os\nfrom mesaopt.data.random import generator\n\ndef train(n):\n    return generator(n) + 1\n",
    "data/__init__.py": "",
    "data/random.py": "from .. import shared\n\ndef generator(n):\n    from mesaopt import late\n    return late.x * n\n",
    "shared.py": "a = 1\n",
    "late.py": "from mesaopt.errors import InputError\nx = 2\n",
    "figures.py": "from mesaopt import shared\ncolour = 'red'\n",
    "native/__init__.py": "",
    "native/build.py": 'SOURCE = "kernel.cpp"\n',
    "native/kernel.cpp": 'int f() { return 1; }  // one\nconst char* s = "// not a comment";\n',
}


def fingerprint(folder: Path, changes: dict[str, str], module: str = "mesaopt.training.loop") -> str:
    for name, text in (PACKAGE | changes).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return code_fingerprint(module, folder)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "train.py": '"""Docstring."""\n# comment\n'
            + PACKAGE["train.py"].replace("    return", '    """Says it."""\n\n    return  (')[:-1]
            + ")\n"
        },
        {"shared.py": "\n\na  =  1  # one\n"},
        {"figures.py": "colour = 'blue'\n"},
        {"errors.py": "class InputError(ValueError):\n    text = 'better wording'\n"},
        {"__init__.py": '__version__ = "2"'},
    ],
    ids=["docstring, comment and layout", "layout of an import", "module not imported", "wording of errors", "version"],
)
def test_what_does_not_change_the_fingerprint(tmp_path: Path, changes: dict[str, str]):
    assert fingerprint(tmp_path / "a", {}) == fingerprint(tmp_path / "b", changes)


@pytest.mark.parametrize("name", ["train.py", "data/random.py", "shared.py", "late.py", "data/__init__.py"])
def test_code_anywhere_below_changes_the_fingerprint(tmp_path: Path, name: str):
    assert fingerprint(tmp_path / "a", {}) != fingerprint(tmp_path / "b", {name: PACKAGE[name] + "y = 5\n"})


def test_a_number_inside_an_expression_changes_the_fingerprint(tmp_path: Path):
    changed = {"train.py": PACKAGE["train.py"].replace("+ 1", "+ 2")}
    assert fingerprint(tmp_path / "a", {}) != fingerprint(tmp_path / "b", changed)


def test_native_source_counts_without_its_comments(tmp_path: Path):
    def of(folder: str, kernel: str) -> str:
        return fingerprint(tmp_path / folder, {"native/kernel.cpp": kernel}, "mesaopt.backends.native.build")

    kernel = PACKAGE["native/kernel.cpp"]
    base = of("base", kernel)
    assert of("commented", "/* several\n lines */\n\n" + kernel.replace("// one", "")) == base
    assert of("changed", kernel.replace("return 1", "return 2")) != base
    assert of("string", kernel.replace("// not", "// now")) != base


def test_an_unknown_module_is_an_error():
    with pytest.raises(ModuleNotFoundError, match=r"mesaopt\.nothing"):
        code_fingerprint("mesaopt.nothing")


def test_fingerprinting_and_provenance_import_nothing_heavy():
    code = (
        "import sys; from mesaopt.store.provenance import code_fingerprint, provenance;"
        "code_fingerprint('mesaopt.store.tables'); provenance();"
        "print([m for m in ('torch', 'pandas', 'numpy', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_provenance_counts_time_before_a_resume_and_is_json(tmp_path: Path):
    content = provenance(started=1_000_000_000.0, seconds_before=0.5, device="cpu")
    write_json(tmp_path / "deep" / "provenance.json", content)
    read = json.loads((tmp_path / "deep" / "provenance.json").read_text())
    assert read == content
    assert read["started"] == "2001-09-09T01:46:40+00:00"
    assert read["wall_seconds"] > 20 * 365 * 24 * 3600
    assert read["device"] == "cpu" and read["cpu"] and read["host"]
    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep" / "provenance.json"]


def test_versions_have_no_local_part():
    assert {"torch", "numpy"} <= set(versions())
    assert not any("+" in version for version in versions().values())


def test_commit_is_the_head_of_the_sources_or_unknown():
    here = Path(__file__).parent
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True)
    expected = head.stdout.strip() if head.returncode == 0 else "unknown"
    assert commit()["commit"] == expected
