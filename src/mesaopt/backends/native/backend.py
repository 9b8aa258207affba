"""Loss and gradients by the native kernel, for every model whose layers it has equations for."""

import ctypes
from collections.abc import Callable, Sequence
from itertools import chain
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.backends.native.build import BuildError, Shape, kernel_library
from mesaopt.backends.native.merged import merges, products, set_gradients
from mesaopt.backends.native.sequences import NativeSampler, sequences_library
from mesaopt.errors import InputError
from mesaopt.models.block import Block
from mesaopt.models.transformer import Transformer, positional_encoding
from mesaopt.spec.run import Model, Run, Task

#: the loss that the kernel computes
OBJECTIVE = "squared_error"
#: the kinds of layers that the kernel has equations for, as it calls them itself, and the name of the number that each head has
KINDS = {"linear": None, "softmax": None, "mesa": "lam"}
#: what has norm 1 by a model's `normalise`: bit 0 the queries, bit 1 the keys, bit 2 the values
NORMALISE = {"none": 0b000, "qk": 0b011, "qv": 0b101}


def unsupported(model: Model) -> str | None:
    """Why the kernel cannot compute this model, or None if it can."""
    for kind in model.layers:
        if kind not in KINDS:
            return f"the native kernel has no {kind} layer"
    if model.normalise not in NORMALISE:
        return f"the native kernel has no normalisation {model.normalise}"
    return None


def available(run: Run) -> str | None:
    """Why the native backend cannot train this run on this machine, or None if it can. Compiles the kernel on first use."""
    if reason := unsupported(run.model):
        return reason
    if run.training.objective != OBJECTIVE:
        return f"the native kernel has no objective {run.training.objective}"
    try:
        kernel_library(_shape(run.model, run.task.n_obs, run.task.context_length))
        sequences_library(run.task.n_state)
    except BuildError as error:
        return str(error)
    return None


def alone() -> int:
    """One thread."""
    return 1


class NativeBackend:
    """The kernel, for one seed (pack = 1) in float32 on the CPU.

    `threads` says, step by step, how many threads it may use; two are of use (one half of a batch each), and change no bit.
    Raises `InputError` for a model or tensors that it does not support (see `available`), or without a working compiler.
    """

    name = "native"

    def __init__(self, threads: Callable[[], int] = alone) -> None:
        self.threads = threads

    def sampler(self, task: Task) -> NativeSampler:
        """Native code that draws training batches; raises `BuildError` where it cannot be compiled."""
        return NativeSampler(task.n_state)

    def loss(
        self, model: Transformer, tokens: Float[Tensor, "1 batch time token"], targets: Float[Tensor, "1 batch time n_obs"]
    ) -> Float[Tensor, " 1"]:
        """Loss alone: half the squared error summed over channels, mean over sequences and positions."""
        return _call(model, tokens, targets, None, self.threads())

    @torch.no_grad()
    def loss_and_gradients(
        self, model: Transformer, tokens: Float[Tensor, "1 batch time token"], targets: Float[Tensor, "1 batch time n_obs"]
    ) -> Float[Tensor, " 1"]:
        """Loss, and each parameter's `.grad` replaced by its gradient."""
        for parameter in model.parameters():
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter, memory_format=torch.contiguous_format)
        merged = _shape(model.model, model.n_obs, tokens.shape[2]).merged
        rooms = [_room(layer, merged) for layer in model.blocks()]
        d_position = _position_table(model, tokens.shape[2], gradients=True)
        ends = [None if p is None else p.grad for p in _embeddings(model)]
        losses = _call(model, tokens, targets, [*chain.from_iterable(rooms), *ends, d_position], self.threads())
        if d_position is not None:
            _position_gradients(model, d_position)
        if merged:
            for layer, (d_qk, _, _, d_ov, *_) in zip(model.blocks(), rooms, strict=True):
                set_gradients(layer, cast(Tensor, d_qk), cast(Tensor, d_ov))
        return losses


def _shape(model: Model, n_obs: int, time: int) -> Shape:
    merged = merges(model, time)
    d_head = model.d_model if merged else model.d_head
    return Shape(
        time=time,
        d_head=d_head,
        d_model=model.d_model,
        n_obs=n_obs,
        raw=model.tokens == "raw",
        merged=merged,
        d_mlp=model.d_mlp,
        normalise=NORMALISE[model.normalise],
    )


def _matrices(layer: Block, merged: bool) -> list[Tensor | None]:
    """Of one layer, in the kernel's order."""
    mlp = [layer.W_1, layer.W_2] if layer.has_mlp else [None, None]
    if merged:
        qk, ov = products(layer)
        return [qk, None, None, ov, None, *mlp]
    return [layer.W_Q, layer.W_K, layer.W_V, layer.W_O, *([getattr(layer, name) for name in layer.own] or [None]), *mlp]


def _parameters(model: Transformer, merged: bool) -> list[Tensor | None]:
    """Of all layers; a head's own number as PyTorch uses it, with the floor that gradients pass through."""
    found: list[Tensor | None] = []
    for layer in model.blocks():
        *matrices, own, w_1, w_2 = _matrices(layer, merged)
        floor = next((parameter.floor for parameter in layer.own.values()), None)
        found += [*matrices, own if own is None or floor is None else own.clamp(min=floor), w_1, w_2]
    return found


def _room(layer: Block, merged: bool) -> list[Tensor | None]:
    """Where the gradients of `_matrices` go."""
    if merged:
        size = (*layer.W_O.shape[:2], layer.W_O.shape[2], layer.W_O.shape[2])
        mlp = [layer.W_1.grad, layer.W_2.grad] if layer.has_mlp else [None, None]
        return [torch.empty(size), None, None, torch.empty(size), None, *mlp]
    return [None if p is None else p.grad for p in _matrices(layer, merged)]


def _embeddings(model: Transformer) -> list[Tensor | None]:
    return [getattr(model, "embedding", None), getattr(model, "unembedding", None)]


def _position_table(model: Transformer, time: int, gradients: bool = False) -> Float[Tensor, "2 heads time d_head"] | None:
    """What the positions add to the first layer's queries and keys, or room for its gradient; None without positions."""
    d_model, d_pe = model.model.d_model, model.model.d_pe
    if d_pe == 0:
        return None
    if gradients:
        return torch.empty(2, model.model.n_heads, time, model.model.d_head)
    first = model.blocks()[0]
    weights = torch.stack([first.W_Q[0, :, :, d_model:], first.W_K[0, :, :, d_model:]])
    return torch.einsum("td,nhkd->nhtk", positional_encoding(time, d_pe).to(weights), weights).contiguous()


def _position_gradients(model: Transformer, d_table: Float[Tensor, "2 heads time d_head"]) -> None:
    encoding = positional_encoding(d_table.shape[2], model.model.d_pe).to(d_table)
    first = model.blocks()[0]
    for weight, gradient in zip((first.W_Q, first.W_K), d_table, strict=True):
        assert weight.grad is not None
        weight.grad[0, :, :, model.model.d_model :] = torch.einsum("htk,td->hkd", gradient, encoding)


@torch.no_grad()
def _call(model: Transformer, tokens: Tensor, targets: Tensor, gradients: Sequence[Tensor | None] | None, threads: int) -> Tensor:
    spec = model.model
    if reason := unsupported(spec):
        raise InputError(reason)
    if model.pack != 1:
        raise InputError(f"the native backend takes one seed at a time, not {model.pack}")
    batch, time = tokens.shape[1:3]
    width = model.n_obs if spec.tokens == "raw" else spec.d_model
    if tokens.shape != (1, batch, time, width) or targets.shape != (1, batch, time, model.n_obs):
        raise InputError(f"tokens {tuple(tokens.shape)} and targets {tuple(targets.shape)} do not fit the model")
    shape = _shape(spec, model.n_obs, time)
    try:
        kernel = kernel_library(shape)
    except BuildError as error:
        raise InputError(str(error)) from None
    inputs = [*_parameters(model, shape.merged), *_embeddings(model), _position_table(model, time)]
    tokens, targets = tokens.contiguous(), targets.contiguous()
    for tensor in (tokens, targets, *inputs, *(gradients or ())):
        _check(tensor)
    kinds = (ctypes.c_char_p * len(spec.layers))(*(layer.encode() for layer in spec.layers))
    loss = kernel.mesaopt_loss(
        len(spec.layers),
        kinds,
        spec.n_heads,
        ctypes.c_float(spec.clip or 0.0),
        spec.d_model + spec.d_pe,
        batch,
        threads,
        ctypes.c_void_p(tokens.data_ptr()),
        ctypes.c_void_p(targets.data_ptr()),
        _pointers(inputs),
        None if gradients is None else _pointers(gradients),
    )
    if loss < 0:
        raise InputError(f"the native kernel does not know every layer of {', '.join(spec.layers)}")
    return torch.tensor([loss], dtype=torch.float32)


def _check(tensor: Tensor | None) -> None:
    """What a bare pointer cannot say for itself."""
    if tensor is None:
        return
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu" or not tensor.is_contiguous():
        raise InputError(f"the native backend takes contiguous float32 tensors on the CPU, not {tensor.dtype} on {tensor.device}")


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*(None if t is None else t.data_ptr() for t in tensors))
