"""The code that a job depends on: what its stage imports, and the modules of the words in its spec.

Light on purpose: the workflow asks each time it is read, so nothing heavy is imported here and no code is executed.
"""

import ast
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGE = "mesaopt"
SOURCES = Path(__file__).resolve().parents[1]
#: rooms that change no number: the wording of an error, a bar of progress or a new kind of table must not rerun hours of training
#: (what a spec says is in its JSON, which jobs depend on anyway)
WITHOUT_NUMBERS = ("errors", "process", "spec", "store")


def code_fingerprint(module: str, named: Iterable[str] = (), sources: Path = SOURCES) -> str:
    """SHA-256 (hex) of what `modules_behind` it would do.

    Comments, docstrings, layout and messages (of errors that are raised, and what is printed) do not count; C++ files and parts
    of a page that a module names in a string ("kernel.cpp", "page.js", beside it) do. Raises `ModuleNotFoundError` when there is
    no such module.
    """
    digest = hashlib.sha256()
    for name in sorted(modules_behind(module, named, sources)):
        digest.update(f"{name}\n{_meaning(name, sources)}\n".encode())
    return digest.hexdigest()


def modules_behind(module: str, named: Iterable[str] = (), sources: Path = SOURCES) -> set[str]:
    """`module` (such as "mesaopt.training.loop"), those that a spec has `named`, and all of this package that they import, but
    for the rooms that change no number. `sources` is the package's folder.

    Imports are followed in the source text, those inside functions included; nothing is executed. Raises `ModuleNotFoundError`
    when there is no such module.
    """
    waiting = [module, *named]
    for name in waiting:
        if _file(name, sources) is None:
            raise ModuleNotFoundError(f"no module {name} under {sources}")
    seen = set(waiting)
    while waiting:
        new = {name for name in _imports(waiting.pop(), sources) if _counts(name)} - seen
        seen |= new
        waiting += sorted(new)
    return seen


def _counts(module: str) -> bool:
    """Whether a module may change a number."""
    return module != PACKAGE and module.split(".")[1] not in WITHOUT_NUMBERS


def _file(module: str, sources: Path) -> Path | None:
    """The source file of a module of the package, or None if it is no such module."""
    first, *rest = module.split(".")
    base = sources.joinpath(*rest)
    candidates = (base / "__init__.py", base.with_suffix(".py"))
    return next((path for path in candidates if first == PACKAGE and path.is_file()), None)


@functools.cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@functools.cache
def _imports(module: str, sources: Path) -> frozenset[str]:
    """Modules of the package that `module` imports, with the packages that hold them."""
    path = _file(module, sources)
    assert path is not None
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for name in _imported_names(_parse(path), package):
        parts = name.split(".")
        found |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return frozenset(name for name in found if _file(name, sources))


def _imported_names(tree: ast.Module, package: str) -> Iterator[str]:
    """Dotted names that may be modules: for `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


@functools.cache
def _meaning(module: str, sources: Path) -> str:
    """A module's syntax tree as text, without words, followed by the sources in other languages that it names."""
    path = _file(module, sources)
    assert path is not None
    tree = _Wordless().visit(_parse(path))
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    native = [path.parent / name for name in sorted(strings) if re.fullmatch(r"\w+\.(cpp|h|hpp|js|css|html)", name)]
    return "\n".join([ast.dump(tree), *(_plain_cpp(file.read_text(encoding="utf-8")) for file in native if file.is_file())])


class _Wordless(ast.NodeTransformer):
    """Without what is only read by people: bare strings, messages of errors, and what is printed."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        value = node.value
        printed = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print"
        return None if printed or isinstance(value, ast.Constant) else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc.args = [x for x in node.exc.args if not isinstance(x, ast.JoinedStr | ast.Constant)]
        return self.generic_visit(node)


def _plain_cpp(text: str) -> str:
    """C++ (or what has its comments) without comments (string literals are left alone), blank lines and indentation."""
    pattern = r'//[^\n]*|/\*.*?\*/|("(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\')'
    text = re.sub(pattern, lambda match: match.group(1) or " ", text, flags=re.DOTALL)
    return "\n".join(line for line in (re.sub(r"\s+", " ", line).strip() for line in text.splitlines()) if line)
