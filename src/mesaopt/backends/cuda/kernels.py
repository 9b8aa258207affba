"""The compiled kernels: what they are given, and how a GPU is told to run them."""

import ctypes
import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch

from mesaopt.backends.cuda.build import binary
from mesaopt.backends.cuda.shape import MAX_LAYERS, Shape
from mesaopt.backends.native.build import BuildError

#: threads of a block of the small kernels
THREADS = 256
_MOST_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


class Sizes(NamedTuple):
    """What the code says of itself (`kernels.cu`): threads, blocks on a multiprocessor, bytes of shared memory; array sizes;
    bytes of shared memory for drawing a sequence, and how many more for a contracting system.
    """

    threads: int
    blocks: int
    shared: int
    in_device: int
    stream: int
    kept: int
    table: int
    hidden: int
    draw: int
    draw_contracting: int


@runtime_checkable
class Kernels(Protocol):
    """Kernels of one shape on one device; `places` is how many blocks of the step it works on at a time."""

    sizes: Sizes
    places: int

    def launch(self, name: str, arguments: ctypes.Structure, blocks: int, threads: int = THREADS, shared: int = 0) -> None:
        """Start so many blocks of a kernel, with so many bytes of shared memory. Does not wait."""
        ...


# ---- arguments, field by field as in step.h and around.h ---------------------------------------------------------------------

_INT, _FLOAT, _LONG, _POINTER = ctypes.c_int, ctypes.c_float, ctypes.c_longlong, ctypes.c_void_p


class StepArguments(ctypes.Structure):
    """`Step` of step.h."""

    _fields_ = [
        *((name, _INT) for name in ("depth", "heads", "sequences", "groups")),
        ("kinds", _INT * MAX_LAYERS),
        *((name, _INT) for name in ("tokens_kind", "backward")),
        *((name, _FLOAT) for name in ("clip", "lam_floor")),
        *((name, _LONG) for name in ("tokens_apart", "targets_apart")),
        *((name, _POINTER) for name in ("tokens", "targets", "packed", "table", "partials", "table_partials", "losses")),
        *((name, _POINTER) for name in ("stream", "kept", "spill")),
    ]


class LayoutArguments(ctypes.Structure):
    """`Layout` of around.h, as all below."""

    _fields_ = [*((name, _INT) for name in ("depth", "heads", "seeds", "groups")), ("at", _POINTER), ("apart", _POINTER)]


class PackArguments(ctypes.Structure):
    _fields_ = [("layout", LayoutArguments), *((name, _POINTER) for name in ("values", "packed", "positions"))]


class TableArguments(ctypes.Structure):
    _fields_ = [("heads", _INT), ("seeds", _INT), *((name, _POINTER) for name in ("encoding", "positions", "table"))]


class ReduceArguments(ctypes.Structure):
    _fields_ = [
        ("layout", LayoutArguments),
        ("sequences", _INT),
        *((name, _POINTER) for name in ("partials", "table_partials", "partial_losses", "gradients", "table_gradient", "losses")),
    ]


class PositionArguments(ctypes.Structure):
    _fields_ = [("layout", LayoutArguments), *((name, _POINTER) for name in ("encoding", "table_gradient", "gradients"))]


class DrawArguments(ctypes.Structure):
    """`Draw` of draw.h."""

    _fields_ = [
        *((name, _INT) for name in ("matrix", "hidden", "pairs", "sequences", "seeds")),
        *((name, _FLOAT) for name in ("start", "bound", "state_noise", "obs_noise", "c_scale", "slowest", "fastest")),
        *((name, _POINTER) for name in ("keys", "step", "teacher", "a", "b", "observations")),
    ]


class OptimiseArguments(ctypes.Structure):
    _fields_ = [
        ("count", _INT),
        *((name, _FLOAT) for name in ("bound", "new_1", "beta_2", "new_2", "epsilon")),
        *((name, _POINTER) for name in ("factors", "values", "gradients", "mean", "square")),
    ]


# ---- a GPU -------------------------------------------------------------------------------------------------------------------


class Module:
    """Code on the present GPU, whose kernels are called mesaopt_NAME. Raises `BuildError` where the driver refuses."""

    def __init__(self, code: bytes) -> None:
        torch.zeros(1, device="cuda")  # the driver's calls need the context that PyTorch makes with its first tensor
        self.module, self.functions, self.allowed = _POINTER(), dict[str, ctypes.c_void_p](), dict[str, int]()
        _check("cuModuleLoadData", ctypes.byref(self.module), code)

    def launch(self, name: str, arguments: ctypes.Structure, blocks: int, threads: int = THREADS, shared: int = 0) -> None:
        """See `Kernels`; on PyTorch's present stream."""
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        given = (_POINTER * 1)(ctypes.addressof(arguments))
        _check("cuLaunchKernel", self._function(name, shared), blocks, 1, 1, threads, 1, 1, shared, stream, given, None)

    def numbers(self, name: str, count: int) -> list[int]:
        """An array of integers that the code holds."""
        place, size, values = _POINTER(), ctypes.c_size_t(), (_INT * count)()
        _check("cuModuleGetGlobal_v2", ctypes.byref(place), ctypes.byref(size), self.module, f"mesaopt_{name}".encode())
        _check("cuMemcpyDtoH_v2", values, place, ctypes.c_size_t(ctypes.sizeof(values)))
        return list(values)

    def _function(self, name: str, shared: int) -> ctypes.c_void_p:
        """Found once, and told how much shared memory it may be given when that is more than before."""
        if name not in self.functions:
            self.functions[name] = _POINTER()
            _check("cuModuleGetFunction", ctypes.byref(self.functions[name]), self.module, f"mesaopt_{name}".encode())
        if shared > self.allowed.get(name, 0):
            _check("cuFuncSetAttribute", self.functions[name], _MOST_SHARED, shared)
            self.allowed[name] = shared
        return self.functions[name]


class GpuKernels(Module):
    """Kernels of a shape on the present GPU. Raises `BuildError` where they cannot be had."""

    def __init__(self, shape: Shape) -> None:
        device = torch.cuda.get_device_properties(torch.cuda.current_device())
        super().__init__(binary(shape, (device.major, device.minor)))
        self.sizes = Sizes(*self.numbers("sizes", len(Sizes._fields)))
        self.places = device.multi_processor_count * self.sizes.blocks


@functools.cache
def gpu_kernels(shape: Shape) -> Kernels:
    """Kernels of a shape, compiled or loaded once; raises `BuildError`."""
    return GpuKernels(shape)


@functools.cache
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise BuildError(f"no driver for the CUDA kernel: {error}") from None


def _check(name: str, *arguments: object) -> None:
    """Call a function of the driver; raises `BuildError` where it fails."""
    call: Callable[..., int] = getattr(_driver(), name)
    if status := call(*arguments):
        raise BuildError(f"the CUDA driver refuses {name} with status {status}")
