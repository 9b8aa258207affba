"""What a frozen model gives by native code besides the loss of its training: the gradient by its inputs of a loss on some
positions alone, and what every layer reads and writes.
"""

import ctypes
import functools
import hashlib
import sys
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

# `backend` says how a model is handed to the kernel; its names stay as they are, since every training depends on that module
from mesaopt.backends.native.backend import _check, _embeddings, _parameters, _pointers, _position_table, _shape, unsupported
from mesaopt.backends.native.build import FOLDER, KERNEL, BuildError, Shape, library
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer

SOURCE = "frozen.cpp"


class FrozenModel:
    """A pack of one in float32 on the CPU, on one thread, whose weights do not change from here on.

    Raises `BuildError`, saying why, where native code cannot compute the model or cannot be compiled.
    """

    def __init__(self, model: Transformer, time: int) -> None:
        reason = unsupported(model.model)
        if reason is None and model.pack != 1:
            reason = f"the native backend takes one seed at a time, not {model.pack}"
        if reason is not None:
            raise BuildError(reason)
        self.model, self.time = model, time
        shape = _shape(model.model, model.n_obs, time)
        self.native = frozen_library(shape)
        with torch.no_grad():
            matrices = [*_parameters(model, shape.merged), *_embeddings(model), _position_table(model, time)]
        self.matrices = [None if matrix is None else matrix.detach() for matrix in matrices]
        for matrix in self.matrices:
            _check(matrix)

    def stream_gradient(
        self, tokens: Float[Tensor, "batch time token"], labels: Float[Tensor, "batch scored n_obs"], scored: Sequence[int]
    ) -> tuple[float, Float[Tensor, "time d_model"]]:
        """Half the squared error of the predictions at the positions `scored`, summed over them, channels and sequences, and its
        gradient by what enters the first layer (the embedded tokens), summed over sequences.

        Raises `InputError` for a model that does not embed its tokens.
        """
        if self.model.model.tokens != "raw":
            raise InputError("the native kernel has no gradient by tokens that are not embedded")
        tokens, targets = tokens.contiguous(), torch.zeros(len(tokens), self.time, self.model.n_obs)
        targets[:, scored] = labels
        mask = torch.zeros(self.time)
        mask[scored] = 1.0
        gradient = torch.empty(self.time, self.model.model.d_model)
        error: float = self.native.mesaopt_stream_gradient(
            *self._model(tokens), *_arrays(tokens, targets), _pointers(self.matrices), *_arrays(mask, gradient)
        )
        if error < 0:
            raise MemoryError
        return error, gradient

    def streams(
        self, tokens: Float[Tensor, "batch time token"]
    ) -> tuple[Float[Tensor, "depth batch time d_model"], Float[Tensor, "depth batch time d_model"]]:
        """What every layer reads, and what it gives, its input added, before the clip."""
        depth, width = len(self.model.model.layers), self.model.model.d_model
        entered, left = torch.empty(2, depth, len(tokens), self.time, width)
        tokens = tokens.contiguous()
        if not self.native.mesaopt_streams(
            *self._model(tokens), *_arrays(tokens), _pointers(self.matrices), *_arrays(entered, left)
        ):
            raise MemoryError
        return entered, left

    def _model(self, tokens: Tensor) -> tuple[object, ...]:
        """The arguments of every call that come first."""
        spec = self.model.model
        width = self.model.n_obs if spec.tokens == "raw" else spec.d_model
        if tokens.shape[1:] != (self.time, width):
            raise InputError(f"tokens {tuple(tokens.shape)} do not fit the model")
        kinds = (ctypes.c_char_p * len(spec.layers))(*(layer.encode() for layer in spec.layers))
        return len(spec.layers), kinds, spec.n_heads, ctypes.c_float(spec.clip or 0.0), spec.d_model + spec.d_pe, len(tokens)


def frozen_model(model: Transformer, time: int, backend: str, what: str) -> FrozenModel | None:
    """By native code on a CPU; None where PyTorch computes: on a GPU, where `backend` (auto, torch, native or cuda) asks for it,
    and, with one line on standard error that says why, where native code cannot be had.

    Raises `InputError` where `native` is asked for and cannot be had on a CPU.
    """
    if backend == "torch" or next(model.parameters()).device.type != "cpu":
        return None
    try:
        return FrozenModel(model, time)
    except BuildError as error:
        if backend == "native":
            raise InputError(f"{what}: backend native: {error}; choose auto or torch") from None
        print(f"mesaopt: {what}: PyTorch takes over: {error}", file=sys.stderr, flush=True)
        return None


def frozen_library(shape: Shape) -> ctypes.CDLL:
    """The code for this shape; raises `BuildError`."""
    native = library(SOURCE, (*shape.definitions(), f"-DOF_KERNEL={_kernel_digest()}"))
    native.mesaopt_stream_gradient.restype, native.mesaopt_streams.restype = ctypes.c_double, ctypes.c_bool
    return native


@functools.cache
def _kernel_digest() -> str:
    """Of the file that this one includes: the name of a library follows its own file and headers alone."""
    return f"x{hashlib.sha256((FOLDER / KERNEL).read_bytes()).hexdigest()[:16]}"


def _arrays(*tensors: Tensor) -> list[ctypes.c_void_p]:
    for tensor in tensors:
        _check(tensor)
    return [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
