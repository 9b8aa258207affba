"""Training batches by native code: the draws of `mesaopt.data.sequences`, up to rounding."""

import ctypes
import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.backends.native.build import library
from mesaopt.data.sampler import Sampler

SOURCE = "sequences.cpp"


def sequences_library(n_state: int) -> ctypes.CDLL:
    """The code for systems of this size, compiled on first use; raises `BuildError`."""
    native = library(SOURCE, (f"-DN={n_state}",))
    for function in (native.mesaopt_orthogonal, native.mesaopt_roll_out, native.mesaopt_draw_states):
        function.restype = ctypes.c_bool
    return native


class NativeSampler(Sampler):
    """What drawing a batch consists of, for systems of `n_state` channels, in float32 on one thread of the CPU.

    Raises `BuildError` where the code cannot be compiled.
    """

    name = "compiled"

    def __init__(self, n_state: int) -> None:
        self.n_state, self.native = n_state, sequences_library(n_state)

    def normal(self, rng: np.random.Generator, *shape: int) -> Float[Tensor, "..."]:
        """Draws from N(0, 1) in float32."""
        count = math.prod(shape)
        return self.box_muller(self.words(rng, count + count % 2))[:count].view(shape)

    def words(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """The 32-bit words whose upper 24 bits are `rng.random(count, dtype=float32)`; `count` is even."""
        state = _state(rng)
        if state is None:
            return (rng.random(count, dtype=np.float32) * np.float32(2**24)).astype(np.uint32) << 8
        words = np.empty(count // 2, dtype=np.uint64)
        self.native.mesaopt_words(*state, ctypes.c_int64(len(words)), ctypes.c_void_p(words.ctypes.data))
        _advance(rng, len(words))
        return words.view(np.uint32)

    def box_muller(self, words: np.ndarray) -> Float[Tensor, " count"]:
        """Normal numbers in place of random words."""
        self.native.mesaopt_normal(ctypes.c_int64(len(words) // 2), ctypes.c_void_p(words.ctypes.data))
        return torch.from_numpy(words.view(np.float32))

    def orthogonal(self, gaussian: Float[Tensor, "n size size"]) -> Float[Tensor, "n size size"]:
        """Q of each matrix = Q R where R has a positive diagonal, in place of contiguous matrices."""
        n, size, _ = gaussian.shape
        assert size == self.n_state
        q = gaussian.contiguous()
        if not self.native.mesaopt_orthogonal(n, _pointer(q)):
            raise MemoryError
        return q

    def states(
        self,
        rng: np.random.Generator,
        w: Float[Tensor, "n size size"],
        time: int,
        scale: float,
        bound: float,
    ) -> Float[Tensor, "n time_plus_1 size"]:
        """`roll_out` from U(-1, 1) with standard normal noise; it takes little memory where n and time * size are even."""
        n, size, _ = w.shape
        assert size == self.n_state
        state = _state(rng)
        if state is None or n % 2 or time * size % 2:
            return super().states(rng, w, time, scale, bound)
        w, states = w.contiguous(), torch.empty(n, time + 1, size)
        factors = ctypes.c_float(scale), ctypes.c_float(bound)
        if not self.native.mesaopt_draw_states(n, time, *factors, _pointer(w), *state, _pointer(states)):
            raise MemoryError
        _advance(rng, n * (time + 1) * size // 2)
        return states

    def roll_out(
        self,
        w: Float[Tensor, "n size size"],
        first: Float[Tensor, "size n"],
        noise: Float[Tensor, "time size n"],
        scale: float,
        bound: float,
    ) -> Float[Tensor, "n time_plus_1 size"]:
        """All states of s_{t+1} = W s_t + scale noise_t, clipped to [-bound, bound]."""
        time, size, n = noise.shape
        assert size == self.n_state
        w, first, noise = w.contiguous(), first.contiguous(), noise.contiguous()
        states = torch.empty(n, time + 1, size)
        factors = ctypes.c_float(scale), ctypes.c_float(bound)
        arrays = (_pointer(x) for x in (w, first, noise, states))
        if not self.native.mesaopt_roll_out(n, time, *factors, *arrays):
            raise MemoryError
        return states


def _advance(rng: np.random.Generator, words: int) -> None:
    """Let the default generator go on as if it had given so many words of 64 bits."""
    source = rng.bit_generator
    assert isinstance(source, np.random.PCG64)
    source.advance(words)


def _state(rng: np.random.Generator) -> tuple[ctypes.c_uint64, ...] | None:
    """State and increment of NumPy's default generator, upper half first; None for others, and where half a word is left over."""
    if not isinstance(rng.bit_generator, np.random.PCG64):
        return None
    content = rng.bit_generator.state
    if content["has_uint32"]:
        return None
    return tuple(
        ctypes.c_uint64(number >> shift & (2**64 - 1))
        for number in (content["state"]["state"], content["state"]["inc"])
        for shift in (64, 0)
    )


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    assert tensor.dtype == torch.float32 and tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())
