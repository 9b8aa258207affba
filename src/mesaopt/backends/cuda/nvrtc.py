"""NVIDIA's compiler library, which PyTorch's packages for GPUs bring: CUDA source becomes code for one kind of GPU.

Neither a toolkit nor a C++ compiler is needed, nor a GPU.
"""

import ctypes
import functools
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mesaopt.backends.native.build import BuildError


def compile_cuda(source: str, headers: Mapping[str, str], options: Sequence[str]) -> bytes:
    """The binary ("cubin") of a source that includes `headers` (text by name); raises `BuildError` with the first error."""
    nvrtc, program = _library(), ctypes.c_void_p()
    texts, names = _strings(list(headers.values())), _strings(list(headers))
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", len(headers), texts, names))
    try:
        status = nvrtc.nvrtcCompileProgram(program, len(options), _strings(options))
        if status != 0:
            lines = _output(program, "ProgramLog").decode(errors="replace").splitlines()
            raise BuildError(
                "NVRTC cannot compile the CUDA kernel: " + next((x for x in lines if "error" in x), f"status {status}")
            )
        return _output(program, "CUBIN")
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def version() -> str:
    """Of the library, such as 13.0; raises `BuildError` where there is none."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return f"{major.value}.{minor.value}"


@functools.cache
def _library() -> ctypes.CDLL:
    """The newest that is installed. It finds its own built-in functions only where these are loaded already."""
    for folder in _folders():
        for path in sorted(folder.glob("libnvrtc.so*"), reverse=True):
            for builtins in folder.glob("libnvrtc-builtins.so*"):
                ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(str(path))
    raise BuildError("no NVRTC to compile the CUDA kernel with (pip install nvidia-cuda-nvrtc)")


def _folders() -> Iterator[Path]:
    """Where NVIDIA's Python packages put libraries: one folder for all since CUDA 13, one for each package before."""
    found = importlib.util.find_spec("nvidia")
    for place in () if found is None else found.submodule_search_locations or ():
        yield from (Path(place) / name / "lib" for name in ("cu13", "cuda_nvrtc"))


def _output(program: ctypes.c_void_p, what: str) -> bytes:
    nvrtc, size = _library(), ctypes.c_size_t()
    _check(getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    room = ctypes.create_string_buffer(size.value)
    _check(getattr(nvrtc, f"nvrtcGet{what}")(program, room))
    return room.raw


def _strings(texts: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * len(texts))(*(text.encode() for text in texts))


def _check(status: int) -> None:
    if status != 0:
        raise BuildError(f"NVRTC fails with status {status}")
