"""The CUDA kernel's source has no race between threads of a block, and touches nothing outside its arrays: found out on a CPU."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cuda_emulation import FOLDER, compiled

from mesaopt.backends.cuda import build
from mesaopt.backends.cuda.shape import Shape

pytestmark = pytest.mark.usefixtures("kernels")
_FLAGS = ("-std=c++17", "-O1", "-g", "-fno-strict-aliasing", "-pthread", f"-I{build.FOLDER}", f"-I{FOLDER}")
RACES = (*_FLAGS, "-fsanitize=thread", "-DTEAM=8", "-DLANES=2")
BOUNDS = (*_FLAGS, "-fsanitize=address")
#: odd sizes with everything that there is, and constructed tokens without
SHAPES = {
    "raw": Shape(13, 6, 11, 3, 5, 37, 0b111, True, 0b111),
    "constructed": Shape(10, 5, 8, 2, 0, 0, 0, False, 0b111),
}
PAPER = Shape(50, 20, 40, 10, 40, 0, 0, True, 0b111)


def check(shape: Shape, flags: tuple[str, ...], *words: str) -> subprocess.CompletedProcess[str]:
    """One step under a sanitizer. Addresses are not scattered, which ThreadSanitizer does not bear on every kernel of Linux."""
    program = [str(compiled(shape, flags, "check.cpp")), *words]
    fixed = ["setarch", "-R"] if shutil.which("setarch") else []
    environment = {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "halt_on_error=0"}
    return subprocess.run([*fixed, *program], capture_output=True, text=True, env=environment, cwd=Path("/"))


@pytest.mark.parametrize("shape", ["raw", *(pytest.param(name, marks=pytest.mark.long) for name in ("constructed", "paper"))])
@pytest.mark.parametrize("flags", [RACES, BOUNDS], ids=["races", "bounds"])
def test_no_sanitizer_has_anything_to_say(shape: str, flags: tuple[str, ...]):
    result = check((SHAPES | {"paper": PAPER})[shape], flags)
    assert (result.returncode, result.stderr) == (0, "") and re.fullmatch(r"loss \d\.\d{6}\n", result.stdout)


@pytest.mark.parametrize("barrier", [3, 5, 10, 30])
def test_a_barrier_that_is_left_out_is_found(barrier: int):
    assert "WARNING: ThreadSanitizer: data race" in check(SHAPES["raw"], RACES, str(barrier)).stderr
