"""Compiles the CUDA code for one shape and one kind of GPU on first use, and keeps it as the native kernel's libraries are kept.

Files lie in the same folder (`native/build.py`), named by a hash of what decides them: source, sizes, compiler. Jobs that want
the same one at once wait for the first to build it; a damaged one is built anew.
"""

import contextlib
import fcntl
import hashlib
import tempfile
from pathlib import Path

from mesaopt.backends.cuda import nvrtc
from mesaopt.backends.cuda.shape import Shape
from mesaopt.backends.native.build import BuildError
from mesaopt.backends.native.kept import is_kept, keep
from mesaopt.errors import InputError
from mesaopt.process.home import cache_folder

FOLDER = Path(__file__).parent
SOURCE = "kernels.cu"
HEADERS = ("around.h", "attention.h", "draw.h", "mlp.h", "platform.h", "products.h", "sizes.h", "step.h")


def binary(shape: Shape, capability: tuple[int, int]) -> bytes:
    """The code for a GPU of this compute capability; raises `BuildError`."""
    major, minor = capability
    options = ("-std=c++17", "-default-device", f"-arch=sm_{major}{minor}", *shape.definitions(capability))
    try:
        return _kept(options).read_bytes()
    except (OSError, InputError) as error:
        raise BuildError(f"cannot build the CUDA kernel: {error}") from None


def _kept(options: tuple[str, ...]) -> Path:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    texts = {name: (FOLDER / name).read_text(encoding="utf-8") for name in (SOURCE, *HEADERS)}
    key = hashlib.sha256("\0".join((*texts.values(), *options, nvrtc.version())).encode()).hexdigest()[:20]
    path = folder / f"cuda-{key}.cubin"
    with open(path.with_suffix(".lock"), "w") as lock:
        # without locks (some network file systems) jobs may compile twice, which the rename makes harmless
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_kept(path):
            _compile(texts, options, path)
    return path


def _compile(texts: dict[str, str], options: tuple[str, ...], path: Path) -> None:
    code = nvrtc.compile_cuda(texts[SOURCE], {name: texts[name] for name in HEADERS}, options)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        unfinished = Path(scratch) / path.name
        unfinished.write_bytes(code)
        keep(unfinished, path)
