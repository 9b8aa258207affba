"""One layer of linear or softmax attention for a few sequences on a CPU: forward and backward written out (see `stack.py`)."""

import functools
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mesaopt.errors import InputError
from mesaopt.models.block import Block
from mesaopt.spec.run import Model

#: the kinds of layers that are written out here
KINDS = ("linear", "softmax")


class Scratch:
    """Arrays for `size` sequences that all layers use in turn; `grad` is the gradient of the residual stream on its way back."""

    def __init__(self, model: Model, time: int, size: int, dtype: torch.dtype) -> None:
        new = functools.partial(torch.empty, dtype=dtype)
        lanes, d_head = size * model.n_heads, model.d_head
        self.scores, self.more_scores = new(2, lanes, time, time).unbind()
        self.grad_heads = new(lanes, d_head, time)
        self.parts, self.grad_qkv = new(3, lanes, d_head, time).unbind(), new(lanes, 3 * d_head, time)
        self.grad = new(size, model.d_model, time)
        #: added to the scores of positions that are still to come
        self.future = torch.full((time, time), -math.inf, dtype=dtype).tril_(-1)


class WrittenBlock:
    """clip(e + sum_h W_O_h attention_h(e)), of which the first `channels`: a seed's weights, and sums of their gradients.

    Arrays are (sequence, channel, time), a lane is a head of a sequence, and row t' and column t of the attention weights belong
    to k_{t'} and q_t. The rows of W are, head by head, those of W_Q, W_K and W_V.
    """

    def __init__(self, model: Model, index: int, channels: int, time: int, size: int, scratch: Scratch) -> None:
        kind = model.layers[index]
        if kind not in KINDS:
            raise InputError(f"no {kind} layer is written out for a CPU, only {' and '.join(KINDS)} ones")
        new = scratch.grad.new_empty
        self.model, self.size, self.channels, self.scratch = model, size, channels, scratch
        self.scale = 1 / math.sqrt(model.d_head) if kind == "softmax" else None
        columns = model.n_heads * model.d_head
        self.W, self.W_O = new(3 * columns, model.d_model), new(channels, columns)
        self.grad_W, self.grad_O = torch.empty_like(self.W), torch.empty_like(self.W_O)
        #: what the positions add to queries, keys and values: the same for all sequences
        self.table = new(3 * columns, time) if model.d_pe and index == 0 else None
        self.grad_table = None if self.table is None else torch.empty_like(self.table)
        self.qkv, self.heads = new(size, 3 * columns, time), new(size, columns, time)
        self.q, self.k, self.v = self.qkv.view(-1, 3 * model.d_head, time).split(model.d_head, 1)
        self.weights = torch.empty_like(scratch.scores)
        self.sums = new(size, channels, time)
        self.out = self.sums if model.clip is None else torch.empty_like(self.sums)
        # the derivative of hardtanh is zero at its bounds, that of the clip is one: the next larger number is beyond its reach
        self.bound = None if model.clip is None else torch.nextafter(new(()).fill_(model.clip), new(()).fill_(math.inf)).item()

    def forward(self, e: Float[Tensor, "size d_model time"]) -> Float[Tensor, "size channels time"]:
        """The layer's output, in memory that the next call overwrites; `e` must stay as it is until `backward`."""
        self.e = e
        if self.table is None:
            torch.bmm(self._each(self.W), e, out=self.qkv)
        else:
            torch.baddbmm(self.table, self._each(self.W), e, out=self.qkv)
        self._attend()
        torch.bmm(self.v, self.weights, out=self.heads.view(self.v.shape))
        torch.baddbmm(e[:, : self.channels], self._each(self.W_O), self.heads, out=self.sums)
        if self.model.clip is not None:
            torch.clamp(self.sums, -self.model.clip, self.model.clip, out=self.out)
        return self.out

    def backward(self, input_needs_it: bool) -> None:
        """From the gradient of the output in `scratch.grad` to that of the input in its place; adds to those of the weights."""
        grad = self.scratch.grad[:, : self.channels]
        if self.bound is not None:
            torch.ops.aten.hardtanh_backward.grad_input(grad, self.sums, -self.bound, self.bound, grad_input=grad)
        self.grad_O.addbmm_(grad, self.heads.mT)
        torch.bmm(self._each(self.W_O.mT), grad, out=self.scratch.grad_heads.view(self.heads.shape))
        self._attend_backward()
        grad_qkv = self.scratch.grad_qkv.view(self.qkv.shape)
        self.grad_W.addbmm_(grad_qkv, self.e.mT)
        if self.grad_table is not None:
            self.grad_table += grad_qkv.sum(0)
        if input_needs_it:
            self.scratch.grad.baddbmm_(self._each(self.W.mT), grad_qkv)

    def _each(self, W: Float[Tensor, "rows columns"]) -> Float[Tensor, "size rows columns"]:
        return W.expand(self.size, -1, -1)

    def _attend(self) -> None:
        """The attention weights."""
        if self.scale is None:
            torch.bmm(self.k.mT, self.q, out=self.weights).triu_()
        else:
            scores = torch.baddbmm(self.scratch.future, self.k.mT, self.q, alpha=self.scale, out=self.scratch.scores)
            torch.softmax(scores, 1, out=self.weights)

    def _attend_backward(self) -> None:
        """From the gradient of the heads to those of queries, keys and values."""
        scratch, grad = self.scratch, self.scratch.grad_heads
        scores = torch.bmm(self.v.mT, grad, out=scratch.scores)
        if self.scale is None:
            scores.triu_()
        else:
            out = scratch.more_scores
            scores = torch._softmax_backward_data(scores, self.weights, 1, out.dtype, grad_input=out).mul_(self.scale)
        pairs = (self.k, scores), (self.q, scores.mT), (grad, self.weights.mT)
        parts = [torch.bmm(a, b, out=out) for (a, b), out in zip(pairs, scratch.parts, strict=True)]
        torch.cat(parts, 1, out=scratch.grad_qkv)

    def load(self, layer: Block, seed: int, positions: Float[Tensor, "time d_pe"] | None) -> None:
        """Take the weights of one seed, with no gradients yet."""
        W_Q, W_K, W_V, W_O = (parameter[seed] for parameter in (layer.W_Q, layer.W_K, layer.W_V, layer.W_O))
        d_model = self.model.d_model
        torch.cat([W_Q[..., :d_model], W_K[..., :d_model], W_V], 1, out=self._by_head(self.W))
        self._heads_of(self.W_O).copy_(W_O[:, : self.channels])
        for total in (self.grad_W, self.grad_O, self.grad_table):
            if total is not None:
                total.zero_()
        if self.table is not None and positions is not None:
            of_Q, of_K = (W[..., d_model:] @ positions.mT for W in (W_Q, W_K))
            torch.cat([of_Q, of_K, torch.zeros_like(of_K)], 1, out=self._by_head(self.table))

    def store(self, layer: Block, seed: int, positions: Float[Tensor, "time d_pe"] | None) -> None:
        """Put the sums of gradients into the `.grad` of the seed's parameters."""
        d_model, d_head = self.model.d_model, self.model.d_head
        grads = [gradient_of(parameter, seed) for parameter in (layer.W_Q, layer.W_K, layer.W_V)]
        for grad, total in zip(grads, self._by_head(self.grad_W).split(d_head, 1), strict=True):
            grad[..., :d_model] = total
        if self.grad_table is not None and positions is not None:
            of_Q, of_K, _ = self._by_head(self.grad_table).split(d_head, 1)
            grads[0][..., d_model:], grads[1][..., d_model:] = of_Q @ positions, of_K @ positions
        grad_O = gradient_of(layer.W_O, seed)
        grad_O[:, : self.channels], grad_O[:, self.channels :] = self._heads_of(self.grad_O), 0

    def _by_head(self, W: Float[Tensor, "rows columns"]) -> Float[Tensor, "heads rows_of_head columns"]:
        return W.view(self.model.n_heads, 3 * self.model.d_head, -1)

    def _heads_of(self, W_O: Float[Tensor, "channels columns"]) -> Float[Tensor, "heads channels d_head"]:
        return W_O.view(self.channels, self.model.n_heads, self.model.d_head).transpose(0, 1)


def gradient_of(parameter: nn.Parameter, seed: int) -> Tensor:
    """Where the gradient of one seed's share of a parameter is to be written."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad[seed]
