"""The code fingerprint follows what code does, not how it is written or what it says."""

from pathlib import Path

import pytest

from mesaopt.store.fingerprint import code_fingerprint

PACKAGE = {
    "__init__.py": '__version__ = "1"',
    "store/__init__.py": "",
    "store/tables.py": "kind = 1\n",
    "layers/__init__.py": "",
    "layers/mesa.py": "from mesaopt import late\nz = late.x\n",
    "layers/softmax.py": "z = 3\n",
    "errors.py": "class InputError(ValueError):\n    pass\n",
    "training.py": "import os\nfrom mesaopt.store import tables\nfrom mesaopt.data.random import generator\n"
    "\ndef train(n):\n    return generator(n) + 1\n",
    "data/__init__.py": "",
    "data/random.py": "from .. import shared\n\ndef generator(n):\n    from mesaopt import late\n    return late.x * n\n",
    "shared.py": "a = 1\n",
    "late.py": "from mesaopt.errors import InputError\nx = 2\nif not x:\n    raise InputError('no x')\n",
    "figures.py": "from mesaopt import shared\ncolour = 'red'\n",
    "native/__init__.py": "",
    "native/build.py": 'SOURCE = "kernel.cpp"\n',
    "native/kernel.cpp": 'int f() { return 1; }  // one\nconst char* s = "// not a comment";\n',
}


def fingerprint(folder: Path, changes: dict[str, str], module: str = "mesaopt.training", named: tuple[str, ...] = ()) -> str:
    for name, text in (PACKAGE | changes).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return code_fingerprint(module, named, folder)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "training.py": '"""Docstring."""\n# comment\n'
            + PACKAGE["training.py"].replace("    return", '    """Says it."""\n\n    return  (')[:-1]
            + ")\n"
        },
        {"shared.py": "\n\na  =  1  # one\n"},
        {"figures.py": "colour = 'blue'\n"},
        {"errors.py": "class InputError(ValueError):\n    text = 'better wording'\n"},
        {"__init__.py": '__version__ = "2"'},
        {"store/tables.py": "kind = 2\n"},
        {"training.py": PACKAGE["training.py"].replace("    return", "    print('on its way', n)\n    return")},
        {"late.py": PACKAGE["late.py"].replace("no x", "there is no x")},
        {"layers/softmax.py": "z = 4\n"},
    ],
    ids=[
        "docstring, comment and layout",
        "layout of an import",
        "module not imported",
        "wording of errors",
        "version",
        "a room without numbers",
        "what is printed",
        "what an error says",
        "a word nobody said",
    ],
)
def test_what_does_not_change_the_fingerprint(tmp_path: Path, changes: dict[str, str]):
    assert fingerprint(tmp_path / "a", {}) == fingerprint(tmp_path / "b", changes)


@pytest.mark.parametrize("name", ["training.py", "data/random.py", "shared.py", "late.py", "data/__init__.py"])
def test_code_anywhere_below_changes_the_fingerprint(tmp_path: Path, name: str):
    assert fingerprint(tmp_path / "a", {}) != fingerprint(tmp_path / "b", {name: PACKAGE[name] + "y = 5\n"})


def test_a_number_inside_an_expression_changes_the_fingerprint(tmp_path: Path):
    changed = {"training.py": PACKAGE["training.py"].replace("+ 1", "+ 2")}
    assert fingerprint(tmp_path / "a", {}) != fingerprint(tmp_path / "b", changed)


def test_native_source_counts_without_its_comments(tmp_path: Path):
    def of(folder: str, kernel: str) -> str:
        return fingerprint(tmp_path / folder, {"native/kernel.cpp": kernel}, "mesaopt.native.build")

    kernel = PACKAGE["native/kernel.cpp"]
    base = of("base", kernel)
    assert of("commented", "/* several\n lines */\n\n" + kernel.replace("// one", "")) == base
    assert of("changed", kernel.replace("return 1", "return 2")) != base
    assert of("string", kernel.replace("// not", "// now")) != base


def test_an_unknown_module_is_an_error():
    with pytest.raises(ModuleNotFoundError, match=r"mesaopt\.nothing"):
        code_fingerprint("mesaopt.nothing")


def test_words_of_a_spec_count_with_what_they_import(tmp_path: Path):
    def of(folder: str, changes: dict[str, str], *words: str) -> str:
        return fingerprint(tmp_path / folder, changes, named=tuple(f"mesaopt.layers.{word}" for word in words))

    changed = {"layers/mesa.py": "from mesaopt import late\nz = late.x + 1\n"}
    assert of("a", {}, "mesa") != of("b", changed, "mesa")
    assert of("a", {}, "softmax") == of("b", changed, "softmax") != of("a", {}, "mesa")
    with pytest.raises(ModuleNotFoundError, match=r"mesaopt\.layers\.nothing"):
        of("a", {}, "nothing")
