"""The declared environment, what runs of it, and its fingerprint, which travels with every result.

Light on purpose: `provenance` asks on behalf of every stage. The comparison itself is in `drift`.
"""

import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: the folder of the Snakefile, when the package runs from its source tree
PROJECT = Path(__file__).resolve().parents[3]
#: files with exact pins for pip: of every environment, of one that starts SLURM jobs, of all that those need in turn
PIP_FILES = ("requirements.txt", "requirements-slurm.txt", "constraints.txt")
#: what `make` installs, every file by its hash: PyTorch with CUDA's packages or without; made of the other files by `make locks`
LOCKS = ("requirements-cuda.lock", "requirements-cpu.lock")
#: names that conda knows under another name than the Python package index
PIP_NAMES = {"pytorch": "torch", "snakemake-minimal": "snakemake", "matplotlib-base": "matplotlib", "seaborn-base": "seaborn"}

#: declared packages that no number depends on: they show results
SHOWING = ("plotly",)


def plain(name: str) -> str:
    """A package's name as the Python package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def conda_pins(project: Path = PROJECT) -> dict[str, str]:
    """Name (that of the Python package index) -> version of what environment.yml declares, Python included; empty without it."""
    pins = _matches(project / "environment.yml", r"^ *- *([\w.-]+) *={1,2} *([\w.]+)")
    return {plain(PIP_NAMES.get(name, name)): version for name, version in pins}


def pip_pins(project: Path, name: str) -> dict[str, str]:
    """Name -> version of every exact pin in a requirements file; empty without it."""
    return {plain(package): version for package, version in _matches(project / name, r"^([\w.-]+) *== *([\w.+]+)")}


def supported_python(project: Path = PROJECT) -> tuple[str, tuple[int, ...], tuple[int, ...]] | None:
    """The Pythons that the project runs on, as pyproject.toml says: its words, the first version, the first that is too new.

    None where no such statement is found. (conda's environment has the one Python of environment.yml.)
    """
    found = _matches(project / "pyproject.toml", r'^requires-python *= *"(>=([\d.]+), *<([\d.]+))"')
    if not found:
        return None
    words, first, beyond = found[0]
    return words, _numbers(first), _numbers(beyond)


def is_supported(version: str, supported: tuple[str, tuple[int, ...], tuple[int, ...]]) -> bool:
    """Whether a version of Python, a prerelease included, is one of `supported_python`."""
    _, first, beyond = supported
    return first <= _numbers(version)[: len(first)] and _numbers(version)[: len(beyond)] < beyond


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def _matches(path: Path, pattern: str) -> list[tuple[str, ...]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return []
    return re.findall(pattern, text, flags=re.MULTILINE)


def running(name: str) -> str | None:
    """The version of a package that runs, None where there is none."""
    if name == "python":
        return platform.python_version()
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def satisfies(version: str | None, declared: str) -> bool:
    """Whether a version is the declared one, or one of its builds (2.13.0+cpu is 2.13.0) or patches (3.11.14 is 3.11)."""
    public = (version or "").partition("+")[0]
    return public == declared.partition("+")[0] or public.startswith(declared + ".")


def versions(project: Path = PROJECT) -> dict[str, str]:
    """What runs of the declared packages: the declared version where that is satisfied, else the one that runs.

    Without those that only start jobs elsewhere (a cluster's environment has them, a laptop's has not, and both compute the same)
    and those that only show results.
    """
    found = {}
    started = pip_pins(project, "requirements-slurm.txt")
    for name, declared in conda_pins(project).items():
        if name in started or name in SHOWING:
            continue
        version = running(name)
        if version is not None:
            found[name] = declared if satisfies(version, declared) else _shortened(name, version)
    return found


def _shortened(name: str, version: str) -> str:
    """Without the build; of Python, which environment.yml pins likewise, without the patch."""
    return ".".join(version.split(".")[:2]) if name == "python" else version.partition("+")[0]


def environment_of(record: Mapping[str, Any], project: Path = PROJECT) -> str | None:
    """The fingerprint in a provenance; of one from when SLURM's plugin counted, the one without it."""
    found, started = record.get("versions", {}), pip_pins(project, "requirements-slurm.txt")
    if not started.keys() & found.keys():
        return record.get("environment")
    return fingerprint({name: version for name, version in found.items() if name not in started})


def fingerprint(found: Mapping[str, str]) -> str | None:
    """Twelve hex digits that are equal where the versions of all declared packages are; None where none are declared."""
    if not found:
        return None
    return hashlib.sha256(json.dumps(dict(found), sort_keys=True).encode()).hexdigest()[:12]
