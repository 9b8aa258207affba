"""The locks are what `make locks` makes of the pins, name every file by its hash, and one of them needs nothing of CUDA."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mesaopt.store.environment import LOCKS, pip_pins

ROOT = Path(__file__).parents[2]
CUDA = re.compile(r"^(nvidia|cuda|triton)\b", flags=re.MULTILINE)
NEEDED = ("Makefile", "requirements.txt", "requirements-cpu.txt", "constraints.txt", *LOCKS)


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_its_hashes(name: str) -> None:
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    packages = re.findall(
        r"^[\w.-]+==\S+(?: ;[^\\\n]*)? \\\n(?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", text, flags=re.MULTILINE
    )
    assert "".join(packages) == text and len(packages) > 70


def test_only_one_of_them_has_what_cuda_needs() -> None:
    cuda, cpu = ((ROOT / name).read_text() for name in LOCKS)
    assert len(CUDA.findall(cuda)) >= 19 and not CUDA.search(cpu)
    assert pip_pins(ROOT, "requirements-cpu.lock")["torch"] == "2.13.0+cpu" == pip_pins(ROOT, "requirements-cpu.txt")["torch"]
    assert pip_pins(ROOT, "requirements-cuda.lock")["torch"] == "2.13.0" == pip_pins(ROOT, "requirements.txt")["torch"]


@pytest.mark.skipif(
    importlib.util.find_spec("uv") is None and "CI" not in os.environ,
    reason="NOT TESTED: whether the locks are what the pins give; `make test` installs uv",
)
@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_is_what_the_pins_give(tmp_path: Path, name: str) -> None:
    """Resolved as `make locks` does; the wheel of PyTorch without CUDA may be out of reach where tests run."""
    for file in NEEDED:
        shutil.copy(ROOT / file, tmp_path)
    plan = subprocess.run(
        ["make", "-n", "-o", ".venv/development", "locks"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = plan.stdout.replace("\\\n", " ").splitlines()
    words = next(line for line in lines if f"-o {name}" in line).replace(".venv/bin/uv", f"'{sys.executable}' -m uv")
    done = subprocess.run(words, cwd=tmp_path, shell=True, capture_output=True, text=True)
    if "cpu" in name and "torch==2.13.0+cpu" in done.stderr and "PIP_FIND_LINKS" not in os.environ:
        pytest.skip("NOT TESTED: requirements-cpu.lock resolved; no PIP_FIND_LINKS with the wheel of PyTorch without CUDA")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / name).read_text() == (ROOT / name).read_text()


@pytest.mark.long
def test_the_lock_with_cuda_can_be_installed(tmp_path: Path) -> None:
    """Several gigabytes; PyTorch must then say which CUDA it has, with or without a GPU."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv/bin/python")
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-cache-dir",
        "--require-hashes",
        "-r",
        ROOT / "requirements-cuda.lock",
    ]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = subprocess.run([python, "-c", "import torch; print(torch.version.cuda)"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+\.\d+\n", found.stdout)
