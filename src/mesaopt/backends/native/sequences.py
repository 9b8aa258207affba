"""Training batches by native code: the draws of `mesaopt.data.sequences`, up to rounding."""

import ctypes
import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.backends.native.build import library
from mesaopt.data.mlp import Mlp
from mesaopt.data.sampler import Sampler

SOURCE = "sequences.cpp"


def sequences_library(n_state: int) -> ctypes.CDLL:
    """The code for systems of this size, compiled on first use; raises `BuildError`."""
    native = library(SOURCE, (f"-DN={n_state}",))
    for name in ("orthogonal", "roll_out", "draw_states", "observe"):
        getattr(native, f"mesaopt_{name}").restype = ctypes.c_bool
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
        start: float = 1.0,
        mlp: Mlp | None = None,
    ) -> Float[Tensor, "n time_plus_1 size"]:
        """`roll_out` from U(-start, start) with standard normal noise; little memory where n and time * size are even."""
        n, size, _ = w.shape
        assert size == self.n_state
        state = _state(rng)
        if state is None or n % 2 or time * size % 2:
            return super().states(rng, w, time, scale, bound, start, mlp)
        w, states = w.contiguous(), torch.empty(n, time + 1, size)
        factors, units = _floats(scale, bound, start), _units(mlp)
        if not self.native.mesaopt_draw_states(n, time, *factors, *_sized(units), _pointer(w), *state, _pointer(states)):
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
        mlp: Mlp | None = None,
    ) -> Float[Tensor, "n time_plus_1 size"]:
        """All states of s_{t+1} = W f(s_t) + scale noise_t, clipped to [-bound, bound]; f as in `Sampler.roll_out`."""
        time, size, n = noise.shape
        assert size == self.n_state
        w, first, noise = w.contiguous(), first.contiguous(), noise.contiguous()
        states = torch.empty(n, time + 1, size)
        factors, units = _floats(scale, bound), _units(mlp)
        arrays = (_pointer(x) for x in (w, first, noise, states))
        if not self.native.mesaopt_roll_out(n, time, *factors, *_sized(units), *arrays):
            raise MemoryError
        return states

    def observe(
        self,
        c: Float[Tensor, "n n_obs size"],
        states: Float[Tensor, "n time_plus_1 size"],
        noise: Float[Tensor, "n time_plus_1 n_obs"],
        scale: float,
    ) -> Float[Tensor, "n time_plus_1 n_obs"]:
        """C s_t + scale noise_t, in place of contiguous noise."""
        n, length, n_obs = noise.shape
        assert states.shape[-1] == self.n_state
        c, states, observed = c.contiguous(), states.contiguous(), noise.contiguous()
        arrays = (_pointer(x) for x in (c, states, observed))
        if not self.native.mesaopt_observe(n, length, n_obs, *_floats(scale), *arrays):
            raise MemoryError
        return observed


def _floats(*numbers: float) -> tuple[ctypes.c_float, ...]:
    return tuple(ctypes.c_float(number) for number in numbers)


def _units(mlp: Mlp | None) -> Float[Tensor, "hidden two_size"]:
    """Of each hidden unit the weights from the input and those to the output; no units without an MLP."""
    return torch.empty(0, 0) if mlp is None else torch.cat((mlp.a.T, mlp.b), dim=1).contiguous()


def _sized(units: Float[Tensor, "hidden two_size"]) -> tuple[int, ctypes.c_void_p]:
    """Number and place of hidden units, which must be kept as long as they are read."""
    return len(units), _pointer(units)


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
