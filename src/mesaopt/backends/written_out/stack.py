"""Loss and gradients of a stack of linear and softmax layers, written out for a CPU.

The numbers of `Transformer` and automatic differentiation, up to rounding. The products are so small that the calls around them,
fresh memory and passes over it cost as much as they do. So the arrays of a few sequences are made once, stay in cache and are
used again; positions come last, (sequence, channel, time), where queries, keys and values of a head are slices of one array
and every product takes and gives arrays as they lie; and the last layer makes only the channels that are the prediction.
"""

import functools

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.backends.written_out.block import KINDS, Scratch, WrittenBlock, gradient_of
from mesaopt.models.transformer import Transformer, kept_encoding
from mesaopt.spec.run import Model

#: the loss that is written out here
OBJECTIVE = "squared_error"


def supports(model: Model) -> bool:
    """Whether this module can compute the model."""
    return set(model.layers) <= set(KINDS) and model.normalise == "none" and model.d_mlp == 0


@torch.no_grad()
def stack_loss(
    model: Transformer,
    tokens: Float[Tensor, "pack batch time token"],
    targets: Float[Tensor, "pack batch time n_obs"],
    size: int,
    gradients: bool,
) -> Float[Tensor, " pack"]:
    """Loss of every seed, `size` sequences at a time; with `gradients` also every parameter's `.grad`, in place."""
    batch, time = targets.shape[1:3]
    stack = _stack(model.model, model.n_obs, time, min(size, batch), tokens.dtype)
    losses = targets.new_zeros(model.pack)
    with torch.autocast("cpu", enabled=False):
        for seed in range(model.pack):
            stack.load(model, seed)
            for part, target in zip(tokens[seed].split(stack.size), targets[seed].split(stack.size), strict=True):
                losses[seed] += stack.forward(part, target) / (2 * batch * time)
                if gradients:
                    stack.backward(1 / (batch * time))
            if gradients:
                stack.store(model, seed)
    return losses


class _Stack:
    """A model of one seed at a time, and arrays for `size` of its sequences."""

    def __init__(self, model: Model, n_obs: int, time: int, size: int, dtype: torch.dtype) -> None:
        self.raw, self.size, last = model.tokens == "raw", size, len(model.layers) - 1
        self.scratch = Scratch(model, time, size, dtype)
        new = self.scratch.grad.new_empty
        self.tokens, self.error = new(size, n_obs if self.raw else model.d_model, time), new(size, n_obs, time)
        self.entry, self.prediction = new(size, model.d_model, time), new(size, n_obs, time)
        self.positions = kept_encoding(time, model.d_pe, dtype, torch.device("cpu")) if model.d_pe else None
        channels = [model.d_model] * last + [model.d_model if self.raw else n_obs]
        self.blocks = [WrittenBlock(model, index, count, time, size, self.scratch) for index, count in enumerate(channels)]

    def load(self, model: Transformer, seed: int) -> None:
        """Take the weights of one seed, with no gradients yet."""
        for block, layer in zip(self.blocks, model.blocks(), strict=True):
            block.load(layer, seed, self.positions)
        if self.raw:
            self.W_in, self.W_out = model.embedding[seed], model.unembedding[seed]
            self.grad_in, self.grad_out = torch.zeros_like(self.W_in), torch.zeros_like(self.W_out)

    def store(self, model: Transformer, seed: int) -> None:
        """Put the gradients into the `.grad` of the seed's parameters."""
        for block, layer in zip(self.blocks, model.blocks(), strict=True):
            block.store(layer, seed, self.positions)
        if self.raw:
            gradient_of(model.embedding, seed).copy_(self.grad_in)
            gradient_of(model.unembedding, seed).copy_(self.grad_out)

    def forward(self, tokens: Float[Tensor, "batch time token"], targets: Float[Tensor, "batch time n_obs"]) -> Float[Tensor, ""]:
        """The sum of squared errors of at most `size` sequences."""
        count = len(tokens)
        self.tokens[:count], self.tokens[count:] = tokens.mT, 0
        e = torch.bmm(self._each(self.W_in), self.tokens, out=self.entry) if self.raw else self.tokens
        for block in self.blocks:
            e = block.forward(e)
        predictions = torch.bmm(self._each(self.W_out), e, out=self.prediction) if self.raw else e
        torch.sub(predictions[:count], targets.mT, out=self.error[:count])
        self.error[count:] = 0  # sequences that are not there have no gradients
        return self.error.square().sum()

    def backward(self, factor: float) -> None:
        """Add the gradients of half the last sum of squared errors, times `factor`."""
        grad, error = self.scratch.grad, self.error.mul_(factor)
        if self.raw:
            self.grad_out.addbmm_(error, self.blocks[-1].out.mT)
            torch.bmm(self._each(self.W_out.mT), error, out=grad)
        else:
            grad[:, : error.shape[1]], grad[:, error.shape[1] :] = error, 0
        for block in reversed(self.blocks):
            block.backward(input_needs_it=self.raw or block is not self.blocks[0])
        if self.raw:
            self.grad_in.addbmm_(grad, self.tokens.mT)

    def _each(self, W: Float[Tensor, "rows columns"]) -> Float[Tensor, "size rows columns"]:
        return W.expand(self.size, -1, -1)


@functools.lru_cache(maxsize=2)
def _stack(model: Model, n_obs: int, time: int, size: int, dtype: torch.dtype) -> _Stack:
    return _Stack(model, n_obs, time, size, dtype)
