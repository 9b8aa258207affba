"""The CUDA kernels compiled as plain C++, so that tests without a GPU run the very source that a GPU runs."""

import copy
import ctypes
import functools
import hashlib
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from mesaopt.backends.cuda import build
from mesaopt.backends.cuda.backend import CudaBackend
from mesaopt.backends.cuda.kernels import THREADS, Kernels, Sizes
from mesaopt.backends.cuda.shape import Shape
from mesaopt.backends.native.build import compiler
from mesaopt.data.sampler import Sampler
from mesaopt.models.transformer import Transformer
from mesaopt.spec.run import Task

FOLDER = Path(__file__).parent / "cuda"
#: layouts and tiles are those of this GPU
CAPABILITY = (9, 0)
FLAGS = ("-std=c++17", "-O1", "-fno-strict-aliasing", "-shared", "-fPIC", f"-I{build.FOLDER}", f"-I{FOLDER}")


class EmulatedKernels:
    """Kernels of a shape on tensors in the memory of the CPU; see `backends.cuda.kernels.Kernels`."""

    #: few, so that blocks have several sequences and seeds several blocks
    places = 6

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.sizes = Sizes(*(ctypes.c_int * len(Sizes._fields)).in_dll(self.library, "mesaopt_sizes"))

    def launch(self, name: str, arguments: ctypes.Structure, blocks: int, threads: int = THREADS, shared: int = 0) -> None:
        getattr(self.library, f"mesaopt_{name}")(ctypes.byref(arguments), blocks)


@functools.cache
def emulated_kernels(shape: Shape) -> Kernels:
    """Compiled once for all tests that share a temporary folder: for all kinds of layers, whichever the model has."""
    return EmulatedKernels(compiled(replace(shape, kinds=0b111), FLAGS))


def compiled(shape: Shape, flags: tuple[str, ...], source: str = "emulate.cpp") -> Path:
    """The emulation as a library, or another source and other flags as a program."""
    command = [*compiler(), *flags, *shape.definitions(CAPABILITY), str(FOLDER / source)]
    texts = [path.read_text() for folder in (FOLDER, build.FOLDER) for path in sorted(folder.glob("*.[hc]*"))]
    key = hashlib.sha256("\0".join([*command, *texts]).encode()).hexdigest()[:20]
    path = Path(tempfile.gettempdir()) / f"mesaopt-cuda-emulation-{key}"
    if not path.exists():
        with tempfile.TemporaryDirectory() as scratch:
            unfinished = Path(scratch) / "emulation"
            subprocess.run([*command, "-o", str(unfinished)], check=True, capture_output=True)
            unfinished.rename(path)
    return path


def emulated_backend() -> CudaBackend:
    """The CUDA backend on a CPU."""
    return CudaBackend(kernels_of=emulated_kernels, device="cpu")


class GpuBackend:
    """The CUDA backend on a GPU for models and tensors that are on the CPU."""

    name = "cuda"

    def __init__(self) -> None:
        self.backend = CudaBackend()

    def sampler(self, task: Task) -> Sampler:
        return self.backend.sampler(task)

    def loss(self, model: Transformer, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.backend.loss(copy.deepcopy(model).cuda(), tokens.cuda(), targets.cuda()).cpu()

    def loss_and_gradients(self, model: Transformer, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        there = copy.deepcopy(model).cuda()
        losses = self.backend.loss_and_gradients(there, tokens.cuda(), targets.cuda())
        for parameter, other in zip(model.parameters(), there.parameters(), strict=True):
            parameter.grad = other.grad.cpu() if parameter.grad is None else parameter.grad.copy_(other.grad)
        return losses.cpu()
