"""Loss and gradients by the CUDA kernel, for every model whose layers it has equations for."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.backends.cuda.fused import GIVEN, Fused
from mesaopt.backends.cuda.kernels import Kernels, gpu_kernels
from mesaopt.backends.cuda.shape import OLDEST, Shape, shape_of, unsupported, unsupported_run
from mesaopt.backends.native.build import BuildError
from mesaopt.backends.native.sequences import NativeSampler
from mesaopt.data.sampler import PLAIN, Sampler
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer
from mesaopt.spec.run import Run, Task


def available(run: Run, spilling: bool = False) -> str | None:
    """Why the CUDA backend does not train this run on the present GPU, or None if it does. Compiles the kernel on first use.

    Wide models and long contexts do not fit into shared memory: what lies in the device's memory instead makes them slow, so they
    are left to PyTorch unless they are wanted so (`spilling`).
    """
    if reason := unsupported_run(run):
        return reason
    if torch.cuda.get_device_capability() < OLDEST:
        return "the CUDA kernel is for GPUs of compute capability 8.0 and later"
    try:
        sizes = gpu_kernels(shape_of(run.model, run.task.n_obs, run.task.context_length)).sizes
    except BuildError as error:
        return str(error)
    if sizes.in_device and not spilling:
        return "the arrays of a sequence do not fit into the GPU's shared memory"
    return None


class CudaBackend:
    """The kernel, for any number of stacked seeds in float32 on a GPU.

    Raises `InputError` for a model or tensors that it does not support (see `available`), or where it cannot be compiled. Where
    kernels come from and where tensors lie is for tests, which compile the same code for a CPU.
    """

    name = "cuda"

    def __init__(
        self, compiled_batches: bool = False, kernels_of: Callable[[Shape], Kernels] = gpu_kernels, device: str = "cuda"
    ) -> None:
        self.compiled_batches, self.kernels_of, self.device = compiled_batches, kernels_of, device
        self.made: dict[tuple[object, ...], Fused] = {}

    def sampler(self, task: Task) -> Sampler:
        """Plain (NumPy and PyTorch), or the native backend's; raises `BuildError` where that cannot be compiled."""
        return NativeSampler(task.n_state) if self.compiled_batches else PLAIN

    @torch.no_grad()
    def loss(
        self, model: Transformer, tokens: Float[Tensor, "pack batch time token"], targets: Float[Tensor, "pack batch time n_obs"]
    ) -> Float[Tensor, " pack"]:
        """Loss alone: half the squared error summed over channels, mean over sequences and positions."""
        self._check(model, tokens, targets)
        fused = self.fused(model, *tokens.shape[1:3])
        return fused.losses_of(_vector(model), tokens.contiguous(), targets.contiguous(), GIVEN).clone()

    @torch.no_grad()
    def loss_and_gradients(
        self, model: Transformer, tokens: Float[Tensor, "pack batch time token"], targets: Float[Tensor, "pack batch time n_obs"]
    ) -> Float[Tensor, " pack"]:
        """Loss, and each parameter's `.grad` replaced by its gradient."""
        self._check(model, tokens, targets)
        fused, values = self.fused(model, *tokens.shape[1:3]), _vector(model)
        gradients = torch.empty_like(values)
        losses = fused.losses_and_gradients(values, gradients, tokens.contiguous(), targets.contiguous(), GIVEN)
        parameters = list(model.parameters())
        for parameter, gradient in zip(parameters, gradients.split([p.numel() for p in parameters]), strict=True):
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
            parameter.grad.copy_(gradient.view_as(parameter))
        return losses.clone()

    def fused(self, model: Transformer, batch: int, time: int, n_state: int = 0) -> Fused:
        """Launches for models like this one, made once; with `n_state` also for drawing the sequences of such systems. Raises
        `InputError` where they cannot be had.
        """
        shape = shape_of(model.model, model.n_obs, time, n_state)
        key = (shape, model.model, model.pack, batch)
        if key not in self.made:
            try:
                kernels = self.kernels_of(shape)
            except BuildError as error:
                raise InputError(str(error)) from None
            self.made[key] = Fused(kernels, shape, model, batch, torch.device(self.device))
        return self.made[key]

    def _check(self, model: Transformer, tokens: Tensor, targets: Tensor) -> None:
        """What a bare pointer cannot say for itself."""
        spec, (batch, time) = model.model, tokens.shape[1:3]
        if reason := unsupported(spec):
            raise InputError(reason)
        width = model.n_obs if spec.tokens == "raw" else spec.d_model
        if tokens.shape != (model.pack, batch, time, width) or targets.shape != (model.pack, batch, time, model.n_obs):
            raise InputError(f"tokens {tuple(tokens.shape)} and targets {tuple(targets.shape)} do not fit the model")
        for x in (tokens, targets, *model.parameters()):
            if x.dtype != torch.float32 or x.device.type != self.device:
                raise InputError(f"the CUDA backend takes float32 tensors on {self.device}, not {x.dtype} on {x.device}")


def _vector(model: Transformer) -> Float[Tensor, " parameters"]:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
