"""Loss and gradients by PyTorch: for every model, on every device."""

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.backends.native.sequences import NativeSampler
from mesaopt.backends.written_out.stack import OBJECTIVE, stack_loss, supports
from mesaopt.data.sampler import PLAIN, Sampler
from mesaopt.models.transformer import Transformer
from mesaopt.spec.run import Task
from mesaopt.spec.words import module

#: sequences at a time on a CPU, so that what forward and backward work on stays in cache; the mesa-layer's recursion works on one
#: small matrix per sequence and head at every position, and needs more of them at a time to be worth the calls
CPU_MICRO_BATCH, CPU_MICRO_BATCH_MESA = 16, 128
#: most pairs of positions at a time, per head: attention over long contexts would otherwise fill the memory with scores
CPU_PAIRS = 400_000


class TorchBackend:
    """Automatic differentiation; on a CPU its numbers written out where there are only linear and softmax layers (`stack.py`).

    On a CPU in micro-batches, whose gradients add up to those of the whole batch.
    """

    name = "torch"

    def __init__(self, objective: str = "squared_error", micro_batch: int | None = None, compiled_batches: bool = False) -> None:
        self.objective, self.micro_batch, self.compiled_batches = objective, micro_batch, compiled_batches

    def sampler(self, task: Task) -> Sampler:
        """Plain (NumPy and PyTorch), or the native backend's; raises `BuildError` where that cannot be compiled."""
        return NativeSampler(task.n_state) if self.compiled_batches else PLAIN

    def loss(
        self, model: Transformer, tokens: Float[Tensor, "pack batch time token"], targets: Float[Tensor, "pack batch time n_obs"]
    ) -> Float[Tensor, " pack"]:
        """Loss alone."""
        size = self._size(model, tokens)
        if self._written_out(model, tokens):
            return stack_loss(model, tokens, targets, size, gradients=False)
        with torch.no_grad():
            return self._sum(model, tokens, targets, size)

    def loss_and_gradients(
        self, model: Transformer, tokens: Float[Tensor, "pack batch time token"], targets: Float[Tensor, "pack batch time n_obs"]
    ) -> Float[Tensor, " pack"]:
        """Loss, and in each parameter's `.grad` the gradient of its own seed's loss: in place, in lieu of what it held."""
        size = self._size(model, tokens)
        if self._written_out(model, tokens):
            return stack_loss(model, tokens, targets, size, gradients=True)
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        return self._sum(model, tokens, targets, size)

    def _size(self, model: Transformer, tokens: Float[Tensor, "pack batch time token"]) -> int:
        """Sequences at a time."""
        _, batch, time, _ = tokens.shape
        if self.micro_batch is not None or tokens.device.type != "cpu":
            return self.micro_batch or batch
        layers = set(model.model.layers)
        if layers == {"mesa"}:  # which works through long contexts part by part
            return CPU_MICRO_BATCH_MESA
        return max(1, min(CPU_MICRO_BATCH_MESA if "mesa" in layers else CPU_MICRO_BATCH, CPU_PAIRS // time**2))

    def _written_out(self, model: Transformer, tokens: Float[Tensor, "pack batch time token"]) -> bool:
        return tokens.device.type == "cpu" and self.objective == OBJECTIVE and supports(model.model)

    def _sum(
        self,
        model: Transformer,
        tokens: Float[Tensor, "pack batch time token"],
        targets: Float[Tensor, "pack batch time n_obs"],
        size: int,
    ) -> Float[Tensor, " pack"]:
        """The losses, `size` sequences at a time; where automatic differentiation is on, it adds to the gradients."""
        total_loss = module("objective", self.objective).total_loss
        batch, time = targets.shape[1:3]
        total = targets.new_zeros(len(targets))
        for part, target in zip(tokens.split(size, dim=1), targets.split(size, dim=1), strict=True):
            losses = total_loss(model(part), target) / (batch * time)
            if losses.requires_grad:
                losses.sum().backward()  # the seeds share no parameter, so each gets the gradient of its own loss
            total += losses.detach()
        return total
