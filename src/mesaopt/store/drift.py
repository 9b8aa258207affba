"""Is this the declared environment? Compares what runs with environment.yml, pins and locks for pip, and conda pins.

Versions are compared; platform, BLAS, CUDA and threads are recorded.
"""

import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
from packaging.requirements import Requirement

from mesaopt.errors import InputError
from mesaopt.store.environment import (
    LOCKS,
    PIP_FILES,
    PIP_NAMES,
    conda_pins,
    is_supported,
    pip_pins,
    plain,
    running,
    satisfies,
    supported_python,
)
from mesaopt.store.provenance import cpu_model
from mesaopt.store.tables import write_table

#: explicit list of packages with hashes, from which Snakemake makes the conda environment where it is there
PIN_FILE = "environment.linux-64.pin.txt"
#: in a lock because PyTorch names it; what a new environment brings is as good, as nothing is built with it here
BUILDING = ("setuptools",)
DRIFT, DECLARED, RECORDED = "drift", "as declared", "recorded"
_PINNED = r"\S+/([\w.-]+)-([\w.!+]+)-([\w.+]+)\.(?:conda|tar\.bz2)#(?:sha256:)?([0-9a-f]{32,64})"
Row = dict[str, str]
Pins = Mapping[str, str]


def environment_stage(project: Path, out: Path) -> None:
    """Write the `environment` table and print it; raises `InputError` that names every drift, after the table is written."""
    table = compare(project)
    write_table(table, "environment", out)
    shown = table[table["state"] != DECLARED]
    print(shown.to_string(index=False, justify="left"))
    drifts = [f"{row['item']} {row['running']} ({row['declared_in']}: {row['declared']})" for row in _rows(table, DRIFT)]
    print(f"{sum(table['state'] == DECLARED)} packages as declared, {len(drifts)} not; all in {out}")
    if drifts:
        raise InputError(f"not the declared environment: {'; '.join(drifts)}")


def compare(project: Path) -> pd.DataFrame:
    """Table `environment`: a row per declared package and file, contradictions between the files, facts of the machine."""
    conda, pip, slurm, constraints = conda_pins(project), *(pip_pins(project, name) for name in PIP_FILES)
    for name, pins in (("environment.yml", conda), *zip(PIP_FILES, (pip, slurm, constraints), strict=True)):
        if not pins:
            raise InputError(f"{project / name}: no pinned packages found")
    absent = set() if _is_conda() else {"python", *(name for name in slurm if running(name) is None)}
    pinned = {name: version for name, version in conda.items() if name not in absent}
    rows = [*_python(project, conda), *_against_what_runs("environment.yml", pinned)]
    rows += _against_what_runs("requirements.txt", pip)
    for name, pins in (("requirements-slurm.txt", slurm), ("constraints.txt", constraints)):
        rows += _against_what_runs(name, {package: pins[package] for package in pins if running(package) is not None})
    rows += _against_each_other(conda, pip, slurm, constraints)
    for name in LOCKS:
        rows += _lock(project / name, pip, constraints)
    rows += [*_pin_file(project / PIN_FILE, conda), *_facts()]
    return pd.DataFrame(rows)


def _rows(table: pd.DataFrame, state: str) -> list[Row]:
    return [{str(key): str(value) for key, value in row.items()} for row in table[table["state"] == state].to_dict("records")]


def _row(item: str, declared: str, declared_in: str, found: str, state: str | bool, source: str = "") -> Row:
    """`state` true or false: as declared or a drift."""
    state = {True: DECLARED, False: DRIFT}[state] if isinstance(state, bool) else state
    return {"item": item, "declared": declared, "declared_in": declared_in, "running": found, "source": source, "state": state}


def _against_what_runs(file: str, pins: Mapping[str, str]) -> Iterator[Row]:
    for name, declared in pins.items():
        version = running(name)
        yield _row(name, declared, file, version or "missing", satisfies(version, declared), _source(name))


def _is_conda() -> bool:
    return Path(sys.prefix, "conda-meta").is_dir()


def _python(project: Path, conda: Mapping[str, str]) -> Iterator[Row]:
    """The Python that runs is one of those supported, and so is conda's; without that statement it is conda's."""
    supported = supported_python(project)
    if supported is None:
        yield from () if _is_conda() else _against_what_runs("environment.yml", {"python": conda.get("python", "")})
        return
    words, version = supported[0], platform.python_version()
    yield _row("python", words, "pyproject.toml", version, is_supported(version, supported), _source("python"))
    if not is_supported(conda.get("python", "0"), supported):
        yield _row("python", words, "pyproject.toml", f"{conda.get('python', 'missing')} in environment.yml", DRIFT)


def _against_each_other(conda: Pins, pip: Pins, slurm: Pins, constraints: Pins) -> Iterator[Row]:
    """A pin that was changed in one file alone."""
    for name in sorted((conda.keys() | pip.keys() | slurm.keys()) - {"python"}):
        own = ("requirements-slurm.txt", slurm) if name in slurm else ("requirements.txt", pip)
        for file, pins in (own, ("constraints.txt", constraints)):
            if pins.get(name) != conda.get(name):
                found = f"{pins.get(name, 'missing')} in {file}"
                yield _row(name, conda.get(name, "missing"), "environment.yml", found, DRIFT)


def _lock(path: Path, pip: Mapping[str, str], constraints: Mapping[str, str]) -> Iterator[Row]:
    """A lock is there, has what the pins say, and the hash of every file; the one of the two that is installed runs."""
    if not path.exists():
        yield _row(path.name, "every file with its hash", "Makefile", "missing", DRIFT)
        return
    locked = {}
    for line, hashes in re.findall(
        r"^([\w.-]+ *==[^\\\n]+)((?:\s+--hash\S+| *\\)*)", path.read_text("utf-8"), flags=re.MULTILINE
    ):
        wanted = Requirement(line.strip())
        if "--hash=sha256:" not in hashes:
            yield _row(wanted.name, "a package with its hash", path.name, "without hash", DRIFT)
        if wanted.marker is None or wanted.marker.evaluate():
            locked[plain(wanted.name)] = str(wanted.specifier).removeprefix("==")
    for file, pins in (("requirements.txt", pip), ("constraints.txt", constraints)):
        for name in sorted(pins.keys() & (locked.keys() | pip.keys())):
            if not satisfies(locked.get(name), pins[name]):
                yield _row(name, pins[name], file, f"{locked.get(name, 'missing')} in {path.name}", DRIFT)
    if not _is_conda() and _with_cuda() == ("cuda" in path.name):
        yield from _against_what_runs(path.name, {name: locked[name] for name in locked if name not in BUILDING})


def _with_cuda() -> bool:
    """Whether the PyTorch that is installed is one that comes with CUDA's packages: of PyPI's, on Linux."""
    return "+cpu" not in (running("torch") or "")


def _pin_file(path: Path, conda: Mapping[str, str]) -> Iterator[Row]:
    """Where there is a pin file: every line has its hash, the declared versions are in it, and it is what conda installed."""
    if not path.exists():
        return
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "://" in line]
    pinned = {}
    for line in lines:
        match = re.fullmatch(_PINNED, line.strip())
        if match is None:
            yield _row(line.strip().rpartition("/")[2], "a package with its hash", path.name, "unreadable or without hash", DRIFT)
            continue
        name, version, build, digest = match.groups()
        pinned[name] = version
        yield from _against_what_conda_installed(path.name, f"{name}-{version}-{build}", digest)
    names = {plain(name): version for name, version in pinned.items()}
    names |= {PIP_NAMES[name]: version for name, version in pinned.items() if name in PIP_NAMES}
    for name, declared in conda.items():
        found = names.get(name)
        yield _row(name, declared, "environment.yml", f"{found or 'missing'} in {path.name}", satisfies(found, declared))


def _against_what_conda_installed(file: str, package: str, digest: str) -> Iterator[Row]:
    installed = Path(sys.prefix, "conda-meta")
    if not installed.is_dir():
        return
    try:
        record = json.loads((installed / f"{package}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        yield _row(package, digest, file, "missing", DRIFT)
        return
    hashes = {record.get("md5"), record.get("sha256")} - {None}
    yield _row(package, digest, file, ", ".join(sorted(hashes)), digest in hashes, str(record.get("channel", "")))


def _source(name: str) -> str:
    """What installed a package: conda's channel where conda did, otherwise the installer's name and where it took it from."""
    for record in Path(sys.prefix, "conda-meta").glob(f"{name}-[0-9]*.json"):
        return str(json.loads(record.read_text(encoding="utf-8")).get("channel", "conda"))
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    origin = json.loads(package.read_text("direct_url.json") or "{}").get("url", "package index")
    return f"{(package.read_text('INSTALLER') or 'unknown').strip()}: {origin}"


def _facts() -> list[Row]:
    import numpy as np
    import torch

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    torch_blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    facts = {
        "python build": f"{platform.python_implementation()} {sys.version.split(' (', 1)[0]}, {platform.python_compiler()}",
        "platform": platform.platform(),
        "processor": cpu_model(),
        "cores": str(os.cpu_count()),
        "threads of a job": os.environ.get("OMP_NUM_THREADS", "not set"),
        "BLAS of numpy": f"{blas['name']} {blas['version']}",
        "BLAS of torch": torch_blas.group(1) if torch_blas else "unknown",
        "CUDA of torch": torch.version.cuda or "none",
        "GPU": gpu,
    }
    return [_row(item, "", "", found, RECORDED) for item, found in facts.items()]
