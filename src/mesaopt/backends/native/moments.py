"""Moments of the predictions of Proposition 2 by native code: those of `mesaopt.training.moments`, up to rounding."""

import ctypes

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from mesaopt.backends.native.build import library
from mesaopt.spec.algorithm import Theory

SOURCE = "moments.cpp"


class NativeMoments:
    """For inputs of `width` channels, in float32 on one thread of the CPU; raises `BuildError` where it cannot be compiled."""

    def __init__(self, theory: Theory, width: int) -> None:
        self.theory, self.width = theory, width
        task = theory.task
        sizes = {"T": task.context_length, "D": width, "N": task.n_obs, "POWERS": theory.n_steps + 1, "LAG": theory.lag}
        self.native = native = library(SOURCE, tuple(f"-D{name}={value}" for name, value in sizes.items()))
        native.mesaopt_moments.restype, native.mesaopt_scalars.restype = ctypes.c_bool, ctypes.c_double

    def __call__(
        self,
        observations: Float[Tensor, "batch time_plus_1 n_obs"],
        inputs: Float[Tensor, "batch time width"] | None = None,
        values: Float[Tensor, "batch time n_obs"] | None = None,
    ) -> Float[Tensor, "rows rows"]:
        """Sums over sequences, positions and channels of the products of the predictions from A^0 x_t, ..., A^n_steps x_t and of
        the target, with each other, in float64. Without `inputs` or `values` they are the observations.
        """
        assert inputs is not None or self.width == observations.shape[-1]
        rows = self.theory.n_steps + 2
        sums = torch.empty(rows, rows, dtype=torch.float64)
        arrays = [None if x is None else x.contiguous() for x in (observations, inputs, values)]
        pointers = [None if x is None else _pointer(x, torch.float32) for x in arrays]
        inverse_lam = ctypes.c_float(self.theory.inverse_lam)
        if not self.native.mesaopt_moments(len(observations), *pointers, inverse_lam, _pointer(sums)):
            raise MemoryError
        return sums

    def loss(self, sums: Float[Tensor, "rows rows"], count: int, alpha: Parameter, beta: Parameter) -> float:
        """The loss of the scalars (float64) on a batch, from its sums over `count` positions; sets their gradients."""
        assert alpha.grad is not None and beta.grad is not None
        arrays = (_pointer(x) for x in (alpha.detach(), beta.detach(), sums))
        gradients = (_pointer(x) for x in (alpha.grad, beta.grad))
        published = ctypes.c_bool(self.theory.form == "published")
        value: float = self.native.mesaopt_scalars(published, *arrays, ctypes.c_double(count), *gradients)
        return value


def _pointer(tensor: Tensor, dtype: torch.dtype = torch.float64) -> ctypes.c_void_p:
    assert tensor.dtype == dtype and tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())
