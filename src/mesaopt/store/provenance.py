"""Where numbers come from: a fingerprint of the code that makes them, the commit, versions, machine and time.

Light on purpose: the workflow calls `code_fingerprint` each time it is read, so nothing heavy is imported here.
"""

import ast
import functools
import hashlib
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mesaopt.store.environment import fingerprint, versions

PACKAGE = "mesaopt"
SOURCES = Path(__file__).resolve().parents[1]
#: modules that change no number: the wording of an error, a field of the provenance or a new kind of table must not rerun hours
#: of training (what a spec says is in its JSON, which jobs depend on anyway)
WITHOUT_NUMBERS = frozenset(
    {PACKAGE, *(f"{PACKAGE}.{name}" for name in ("errors", "spec", "spec.run", "store"))}
    | {f"{PACKAGE}.store.{name}" for name in ("environment", "digests", "provenance", "tables")}
)
_IMPORTED = time.time()


# --- fingerprint ---------------------------------------------------------------------------------------------------------------
def code_fingerprint(module: str, sources: Path = SOURCES) -> str:
    """SHA-256 (hex) of what `module` (such as "mesaopt.training.loop") and every module of this package that it imports would do.

    Imports are followed in the source text, those inside functions included; nothing is executed. Comments, docstrings and
    layout do not count; C++ files that a module names in a string ("kernel.cpp", beside it) do. `sources` is the package's
    folder. Raises `ModuleNotFoundError` when there is no such module.
    """
    if _file(module, sources) is None:
        raise ModuleNotFoundError(f"no module {module} under {sources}")
    waiting, seen = [module], {module}
    while waiting:
        new = _imports(waiting.pop(), sources) - seen
        seen |= new
        waiting += sorted(new)
    digest = hashlib.sha256()
    for name in sorted(seen - WITHOUT_NUMBERS | {module}):
        digest.update(f"{name}\n{_meaning(name, sources)}\n".encode())
    return digest.hexdigest()


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
    """A module's syntax tree as text, without docstrings, followed by the C++ sources that it names."""
    path = _file(module, sources)
    assert path is not None
    tree = _without_docstrings(_parse(path))
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    native = [path.parent / name for name in sorted(strings) if re.fullmatch(r"\w+\.(cpp|h|hpp)", name)]
    return "\n".join([ast.dump(tree), *(_plain_cpp(file.read_text(encoding="utf-8")) for file in native if file.is_file())])


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # a bare string does nothing wherever it stands
            node.body = [x for x in body if not (isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant))]  # type: ignore[attr-defined]
    return tree


def _plain_cpp(text: str) -> str:
    """C++ without comments (string literals are left alone), blank lines and indentation."""
    pattern = r'//[^\n]*|/\*.*?\*/|("(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\')'
    text = re.sub(pattern, lambda match: match.group(1) or " ", text, flags=re.DOTALL)
    return "\n".join(line for line in (re.sub(r"\s+", " ", line).strip() for line in text.splitlines()) if line)


# --- provenance ----------------------------------------------------------------------------------------------------------------
def provenance(*, started: float | None = None, seconds_before: float = 0.0, **extra: Any) -> dict[str, Any]:
    """What to store beside numbers: commit, versions and their fingerprint, machine, times, and whatever `extra` names.

    `started` is in seconds since the epoch (default: when this module was imported); `seconds_before` is wall time spent in
    earlier, interrupted processes of the same job and counts in `wall_seconds`.
    """
    started = _IMPORTED if started is None else started
    finished = time.time()
    found = versions()
    return {
        **commit(),
        "python": platform.python_version(),
        "versions": found,
        "environment": fingerprint(found),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu": cpu_model(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count(),
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "finished": datetime.fromtimestamp(finished, UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(finished - started + seconds_before, 3),
        **extra,
    }


def commit() -> dict[str, Any]:
    """{"commit": hash or "unknown", "dirty": whether the package's sources differ from it (None if unknown)}."""
    head = _git("rev-parse", "HEAD")
    # code that was installed somewhere below a work tree is not what that work tree's commit says
    if head is None or _git("ls-files", "--error-unmatch", "store/provenance.py") is None:
        return {"commit": "unknown", "dirty": None}
    return {"commit": head.strip(), "dirty": bool(_git("status", "--porcelain", "--", "."))}


def _git(*arguments: str) -> str | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(["git", *arguments], cwd=SOURCES, capture_output=True, text=True, check=True, env=environment)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout


def cpu_model() -> str:
    """The processor's name, as well as it can be had."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    except OSError:
        match = None
    return match.group(1) if match else platform.processor() or platform.machine()


def write_json(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write `content` as readable JSON, atomically. Raises `InputError` when the disk refuses."""
    from mesaopt.store.tables import atomic_path  # pandas and pyarrow, which a reader of fingerprints need not wait for

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
