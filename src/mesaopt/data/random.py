"""Random numbers by name: every draw of the project is a pure function of (seed, stream, index).

So a resumed training needs no saved generator state, and a seed draws the same numbers in any pack or process.
"""

import functools
import hashlib
import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.errors import InputError


def generator(seed: int, stream: str, *index: int) -> np.random.Generator:
    """The generator of one stream of a seed, such as the training batch of one step: `generator(11, "train", 4000)`.

    Streams of different names, and different indices of one stream, are independent. Raises `InputError` for a negative seed.
    """
    if seed < 0:
        raise InputError(f"seed must not be negative, not {seed}")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_number(stream), *index)))


@functools.cache
def _number(stream: str) -> int:
    return int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little")


def uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> Float[Tensor, "..."]:
    """Draws from U(low, high) in float32."""
    return torch.from_numpy(rng.random(shape, dtype=np.float32)).mul_(high - low).add_(low)


def normal(rng: np.random.Generator, *shape: int) -> Float[Tensor, "..."]:
    """Draws from N(0, 1) in float32 by the transform of Box and Muller: with vectorised log, cos and sin half the time
    of numpy's rejection sampler, and noise is the larger part of drawing a batch.
    """
    count = math.prod(shape)
    pairs = -(-count // 2)
    u = torch.from_numpy(rng.random((2, pairs), dtype=np.float32))
    radius = (1 - u[0]).log_().mul_(-2).sqrt_()  # 1 - u is never 0
    angle = u[1].mul_(2 * math.pi)
    draws = torch.empty(2, pairs)
    torch.mul(radius, angle.cos(), out=draws[0])
    torch.mul(radius, angle.sin(), out=draws[1])
    return draws.view(-1)[:count].view(shape)
