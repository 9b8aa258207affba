"""Compiles native code for one shape on first use and keeps the library for the next time.

Libraries live under $XDG_CACHE_HOME/mesaopt (default ~/.cache/mesaopt; see `process.home`), named by a hash of everything that
decides their code: source, flags, compiler version and CPU. Jobs that want the same library at once wait for the first one to
build it. A damaged one is built anew.
"""

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mesaopt.backends.native.kept import is_kept, keep
from mesaopt.errors import InputError
from mesaopt.process.home import cache_folder

FOLDER = Path(__file__).parent
KERNEL = "kernel.cpp"
#: what C++ files of this folder include
HEADERS = ("attention.h", "layer.h", "mlp.h", "products.h", "vectors.h")
COMPILERS = ("g++", "clang++", "c++")
#: no -ffast-math: NaN and infinity must come through, and `exponential` relies on the order of its additions
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared", "-fPIC", "-pthread")
TARGET_FLAGS = {
    "x86_64": ("-march=native", "-mprefer-vector-width=512"),
    "aarch64": ("-mcpu=native",),
    "arm64": ("-mcpu=native",),
}


class BuildError(Exception):
    """No library for this machine; the message says why in one line."""


@dataclass(frozen=True)
class Shape:
    """What a library is compiled for: context length, d_head, d_model, n_obs, whether tokens are embedded and heads merged, the
    MLP's hidden units (0: none), and which of queries, keys and values have norm 1 (bits 0, 1 and 2).
    """

    time: int
    d_head: int
    d_model: int
    n_obs: int
    raw: bool
    merged: bool = False
    d_mlp: int = 0
    normalise: int = 0

    def definitions(self) -> tuple[str, ...]:
        """The sizes as preprocessor definitions."""
        sizes = {"T": self.time, "D": self.d_head, "E": self.d_model, "N": self.n_obs}
        values = sizes | {"RAW": int(self.raw), "MERGED": int(self.merged), "D_MLP": self.d_mlp, "NORMALISE": self.normalise}
        return tuple(f"-D{name}={value}" for name, value in values.items())


def kernel_library(shape: Shape) -> ctypes.CDLL:
    """The kernel for this shape; raises `BuildError`."""
    kernel = library(KERNEL, shape.definitions())
    kernel.mesaopt_loss.restype = ctypes.c_double
    return kernel


@functools.cache
def library(source: str, definitions: tuple[str, ...]) -> ctypes.CDLL:
    """The C++ file of this folder, compiled if this machine has not done so before; raises `BuildError`."""
    try:
        command = [*_compiler_and_flags(), *definitions, str(FOLDER / source)]
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{Path(source).stem}-{_key(command)}.so"
        with open(path.with_suffix(".lock"), "w") as lock:
            # without locks (some network file systems) jobs may compile twice, which the rename makes harmless
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_kept(path):
                _compile(command, path)
        return ctypes.CDLL(str(path))
    except (OSError, InputError) as error:
        raise BuildError(f"cannot build or load the native kernel: {error}") from None


def compiler() -> tuple[str, ...]:
    """The words of $CXX if set (`ccache g++`, `g++ -m64`), otherwise the path of the first C++ compiler found.

    The first word is a path. Raises `BuildError` when there is none.
    """
    asked = os.environ.get("CXX", "").strip()
    for words in [_words(asked)] if asked else [(name,) for name in COMPILERS]:
        if path := shutil.which(words[0]):
            return (path, *words[1:])
    raise BuildError(f"no C++ compiler for the native kernel ({asked or ', '.join(COMPILERS)} not found)")


def require_compiler() -> None:
    """Raise `BuildError` unless there is a compiler that makes code for this machine: found out with an empty file, at once."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "empty.cpp"
            source.write_text("")
            _run([*_compiler_and_flags(), str(source), "-o", str(source.with_suffix(".so"))])
    except OSError as error:
        raise BuildError(f"cannot build the native kernel: {error}") from None


def _compiler_and_flags() -> list[str]:
    return [*compiler(), *FLAGS, *TARGET_FLAGS.get(platform.machine(), ())]


def _words(asked: str) -> tuple[str, ...]:
    """Of a command line as a shell reads it, unless it is the name of a program with a space in it."""
    if shutil.which(asked):
        return (asked,)
    try:
        return tuple(shlex.split(asked)) or (asked,)
    except ValueError as error:
        raise BuildError(f"no C++ compiler for the native kernel (CXX={asked}: {error})") from None


def _compile(command: list[str], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        unfinished = Path(scratch) / path.name
        _run([*command, "-o", str(unfinished)])
        keep(unfinished, path)


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        reason = next((line for line in lines if "error" in line), lines[0])
        raise BuildError(f"{' '.join(compiler())} cannot compile the native kernel: {reason}")


def _key(command: list[str]) -> str:
    *options, source = command
    files = [Path(source), *(FOLDER / name for name in HEADERS)]
    parts = (*(file.read_text() for file in files), *options, _version(compiler()), _cpu())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


@functools.cache
def _version(words: tuple[str, ...]) -> str:
    result = subprocess.run([*words, "--version"], capture_output=True, text=True, errors="replace")
    return result.stdout.partition("\n")[0]


@functools.cache
def _cpu() -> str:
    """Model and instruction sets: what -march=native looks at."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(sorted({line for line in lines if line.partition(":")[0].strip() in wanted}))
