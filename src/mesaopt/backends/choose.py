"""Who computes loss and gradients of a model: PyTorch, or a native kernel where there is one for the model."""

import sys
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.backends.native.backend import NativeBackend, available
from mesaopt.backends.native.build import BuildError
from mesaopt.backends.native.sequences import NativeSampler, sequences_library
from mesaopt.backends.written_out.stack import stack_loss, supports
from mesaopt.data.sequences import PLAIN, Sampler
from mesaopt.errors import InputError
from mesaopt.models.transformer import Transformer
from mesaopt.spec.run import Run, Task

#: sequences at a time on a CPU, so that what forward and backward work on stays in cache; the mesa-layer's recursion works on one
#: small matrix per sequence and head at every position, and needs more of them at a time to be worth the calls
CPU_MICRO_BATCH, CPU_MICRO_BATCH_MESA = 16, 128
#: most pairs of positions at a time, per head: attention over long contexts would otherwise fill the memory with scores
CPU_PAIRS = 400_000


@runtime_checkable
class Backend(Protocol):
    """Loss per stacked seed: half the squared error summed over channels, mean over sequences and positions."""

    name: str

    def sampler(self, task: Task) -> Sampler:
        """How training batches of `task` are drawn."""
        ...

    def loss(
        self, model: Transformer, tokens: Float[Tensor, "pack batch time token"], targets: Float[Tensor, "pack batch time n_obs"]
    ) -> Float[Tensor, " pack"]:
        """Loss alone."""
        ...

    def loss_and_gradients(
        self, model: Transformer, tokens: Float[Tensor, "pack batch time token"], targets: Float[Tensor, "pack batch time n_obs"]
    ) -> Float[Tensor, " pack"]:
        """Loss, and in each parameter's `.grad` the gradient of its own seed's loss: in place, in lieu of what it held."""
        ...


class TorchBackend:
    """Automatic differentiation; on a CPU its numbers written out where there are only linear and softmax layers (`stack.py`).

    On a CPU in micro-batches, whose gradients add up to those of the whole batch.
    """

    name = "torch"

    def __init__(self, micro_batch: int | None = None, compiled_batches: bool = False) -> None:
        self.micro_batch, self.compiled_batches = micro_batch, compiled_batches

    def sampler(self, task: Task) -> Sampler:
        """Plain (NumPy and PyTorch), or the native backend's; raises `BuildError` where that cannot be compiled."""
        return NativeSampler(task.n_state) if self.compiled_batches else PLAIN

    def loss(
        self, model: Transformer, tokens: Float[Tensor, "pack batch time token"], targets: Float[Tensor, "pack batch time n_obs"]
    ) -> Float[Tensor, " pack"]:
        """Loss alone."""
        size = self._size(model, tokens)
        if _written_out(model, tokens):
            return stack_loss(model, tokens, targets, size, gradients=False)
        with torch.no_grad():
            return _sum(model, tokens, targets, size)

    def loss_and_gradients(
        self, model: Transformer, tokens: Float[Tensor, "pack batch time token"], targets: Float[Tensor, "pack batch time n_obs"]
    ) -> Float[Tensor, " pack"]:
        """Loss, and in each parameter's `.grad` the gradient of its own seed's loss: in place, in lieu of what it held."""
        size = self._size(model, tokens)
        if _written_out(model, tokens):
            return stack_loss(model, tokens, targets, size, gradients=True)
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        return _sum(model, tokens, targets, size)

    def _size(self, model: Transformer, tokens: Float[Tensor, "pack batch time token"]) -> int:
        """Sequences at a time."""
        _, batch, time, _ = tokens.shape
        if self.micro_batch is not None or tokens.device.type != "cpu":
            return self.micro_batch or batch
        layers = set(model.model.layers)
        if layers == {"mesa"}:  # which works through long contexts part by part
            return CPU_MICRO_BATCH_MESA
        return max(1, min(CPU_MICRO_BATCH_MESA if "mesa" in layers else CPU_MICRO_BATCH, CPU_PAIRS // time**2))


def _written_out(model: Transformer, tokens: Float[Tensor, "pack batch time token"]) -> bool:
    return tokens.device.type == "cpu" and supports(model.model)


def _sum(
    model: Transformer, tokens: Float[Tensor, "pack batch time token"], targets: Float[Tensor, "pack batch time n_obs"], size: int
) -> Float[Tensor, " pack"]:
    """The losses, `size` sequences at a time; where automatic differentiation is on, it adds to the gradients."""
    batch, time = targets.shape[1:3]
    total = targets.new_zeros(len(targets))
    for part, target in zip(tokens.split(size, dim=1), targets.split(size, dim=1), strict=True):
        losses = (model(part) - target).square().sum(dim=(1, 2, 3)) / (2 * batch * time)
        if losses.requires_grad:
            losses.sum().backward()  # the seeds share no parameter, so each gets the gradient of its own loss
        total += losses.detach()
    return total


def choose(name: str, run: Run, device: str) -> Backend:
    """The backend called `name` (auto, torch or native) for a run on `device` (cpu or cuda).

    `auto` takes the native kernel on a CPU, and for a GPU PyTorch with batches that native code draws, for which the GPU would
    wait otherwise; it falls back on PyTorch for either with one line on standard error that says why. Raises `InputError` when
    `native` is asked for and cannot be had.
    """
    if name == "torch":
        return TorchBackend()
    if name == "auto" and device != "cpu":
        return TorchBackend(compiled_batches=_compiles_batches(run))
    reason = available(run) if device == "cpu" else "the native kernel is for CPUs"
    if reason is None:
        return NativeBackend()
    if name == "native":
        raise InputError(f"{run.name}: backend native: {reason}; choose auto or torch")
    print(f"mesaopt: {run.name}: PyTorch takes over: {reason}", file=sys.stderr, flush=True)
    return TorchBackend()


def _compiles_batches(run: Run) -> bool:
    try:
        sequences_library(run.task.n_state)
    except BuildError as error:
        print(f"mesaopt: {run.name}: batches are drawn without compiled code: {error}", file=sys.stderr, flush=True)
        return False
    return True
