"""Functions with gradients written by hand, for training and for every transform of `torch.func`.

A `ByHand` states one function three times: its fast `forward`, its `gradients`, and `naive`, the equation in plain operations.

* Training runs `forward` and `gradients`, on ordinary tensors.
* So do `grad`, `vjp`, `jacrev` and `vmap`, nested as one likes: what is mapped over joins the first axis of every tensor, along
  which problems lie side by side.
* Derivatives of `gradients` are those of the naive form.
* `jvp`, `jacfwd` and `hessian` need the naive form throughout: inside `naive_form()`; outside they raise `InputError`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mesaopt.errors import InputError

#: of tensors; None is an input that is left out, a gradient that is zero or that nobody needs
Tensors = Sequence[Any]

_naive = ContextVar("_naive", default=False)


@contextmanager
def naive_form() -> Iterator[None]:
    """Inside, every layer is computed by its equation in plain operations: slower, larger, differentiable in every way.

    `with naive_form(): torch.func.hessian(loss)(tokens)`; what is computed inside may be differentiated outside.
    """
    token = _naive.set(True)
    try:
        yield
    finally:
        _naive.reset(token)


@dataclass(frozen=True)
class ByHand:
    """A function of tensors that all have problems side by side along their first axis, (problem, ...).

    `forward` takes the inputs and returns the outputs, `outputs` of them, and then what else `gradients` wants to find again;
    that is given what `forward` returned from place `keeps_from` on. `gradients` takes which inputs need theirs (bools), the
    gradients of the outputs, the inputs, and what was kept; it returns a gradient for every input, None where none is needed.
    `naive` takes the inputs and returns the outputs alone.
    """

    forward: Callable[..., tuple[Tensor, ...]]
    gradients: Callable[[Sequence[bool], Tensors, Tensors, Tensors], Tensors]
    naive: Callable[..., tuple[Tensor, ...]]
    outputs: int = 1
    keeps_from: int = 1

    def __call__(self, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        """The outputs."""
        if _naive.get():
            return self.naive(*inputs)
        function = _Transformed if torch._C._are_functorch_transforms_active() else _Ordinary
        returned: tuple[Tensor, ...] = function.apply(self, *inputs)
        return returned[: self.outputs]


class _ByHandFunction(torch.autograd.Function):
    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise InputError("jvp, jacfwd and hessian need the naive form: call them inside mesaopt.models.by_hand.naive_form()")


class _Forward(_ByHandFunction):
    """The forward pass, in two ways of calling it."""

    @staticmethod
    def save(ctx: Any, rule: ByHand, inputs: Tensors, returned: Tensors) -> None:
        ctx.rule = rule
        ctx.save_for_backward(*inputs, *returned[rule.keeps_from :])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        needed, asked = ctx.needs_input_grad[1:], grads[: ctx.rule.outputs]
        if all(grad is None for grad in asked):
            return None, *[None] * len(needed)
        ordinary = not (torch.is_grad_enabled() or torch._C._are_functorch_transforms_active())
        gradients = _Gradients.forward if ordinary else _Gradients.apply  # the same, a little faster
        return None, *gradients(ctx.rule, needed, *asked, *ctx.saved_tensors)


class _Ordinary(_Forward):
    """Outside all transforms; `_Transformed` would do, but costs a small step some hundredths of its time."""

    @staticmethod
    def forward(ctx: Any, rule: ByHand, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        returned = rule.forward(*inputs)
        _Forward.save(ctx, rule, inputs, returned)
        return returned[: rule.outputs]


class _Transformed(_Forward):
    """What it keeps must be among what it returns, for transforms to see it."""

    @staticmethod
    def forward(rule: ByHand, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        return rule.forward(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        _Forward.save(ctx, inputs[0], inputs[1:], output)
        ctx.mark_non_differentiable(*output[inputs[0].outputs :])

    @staticmethod
    def vmap(info: Any, in_dims: tuple, rule: ByHand, *inputs: Tensor | None) -> tuple:
        return _unfold(info.batch_size, _Transformed.apply(rule, *_fold(info.batch_size, in_dims[1:], inputs)))


class _Gradients(_ByHandFunction):
    """The backward pass as a function of its own: of the gradients of the outputs, the inputs, and what was kept."""

    @staticmethod
    def forward(rule: ByHand, needed: tuple[bool, ...], *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        grads, rest = tensors[: rule.outputs], tensors[rule.outputs :]
        return tuple(rule.gradients(needed, grads, rest[: len(needed)], rest[len(needed) :]))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor | None, ...]) -> None:
        ctx.rule, ctx.needed, *tensors = inputs
        wanted = ctx.rule.outputs + len(ctx.needed)
        ctx.n_kept = len(tensors) - wanted
        ctx.save_for_backward(*tensors[:wanted])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *seconds: Tensor | None) -> tuple[Tensor | None, ...]:
        """By the naive form, of which what was kept is no input."""
        needed, tensors = ctx.needed, ctx.saved_tensors
        present = [x for x in tensors if x is not None]

        def gradients(*present: Tensor) -> tuple[Tensor, ...]:
            found = iter(present)
            given = [None if x is None else next(found) for x in tensors]
            return _naive_gradients(ctx.rule, needed, given[: ctx.rule.outputs], given[ctx.rule.outputs :])

        values, pull = torch.func.vjp(gradients, *present)[:2]
        asked = [second for second, need in zip(seconds, needed, strict=True) if need]
        found = iter(pull(tuple(torch.zeros_like(x) if y is None else y for x, y in zip(values, asked, strict=True))))
        return None, None, *[None if x is None else next(found) for x in tensors], *[None] * ctx.n_kept

    @staticmethod
    def vmap(info: Any, in_dims: tuple, rule: ByHand, needed: tuple[bool, ...], *tensors: Tensor | None) -> tuple:
        return _unfold(info.batch_size, _Gradients.apply(rule, needed, *_fold(info.batch_size, in_dims[2:], tensors)))


def _naive_gradients(rule: ByHand, needed: Sequence[bool], grads: Tensors, inputs: Tensors) -> tuple[Tensor, ...]:
    """The gradients of those inputs that need theirs."""

    def outputs(*some: Tensor | None) -> tuple[Tensor, ...]:
        found = iter(some)
        every = rule.naive(*[next(found) if need else x for x, need in zip(inputs, needed, strict=True)])
        return tuple(output for output, grad in zip(every, grads, strict=True) if grad is not None)

    pull = torch.func.vjp(outputs, *[x for x, need in zip(inputs, needed, strict=True) if need])[1]
    found: tuple[Tensor, ...] = pull(tuple(grad for grad in grads if grad is not None))
    return found


def _fold(size: int, dims: Sequence[int | None], tensors: Tensors) -> list[Tensor | None]:
    """(problem, ...) mapped over an axis of `size` somewhere, or the same for all: as (size * problem, ...)."""

    def front(x: Tensor, dim: int | None) -> Tensor:
        return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)

    return [None if x is None else front(x, dim).flatten(0, 1) for x, dim in zip(tensors, dims, strict=True)]


def _unfold(size: int, tensors: Tensors) -> tuple[tuple[Tensor | None, ...], tuple[int | None, ...]]:
    """What `_fold` joined, apart again; and where the mapped axis is: in front."""
    apart = tuple(None if x is None else x.unflatten(0, (size, -1)) for x in tensors)
    return apart, tuple(None if x is None else 0 for x in tensors)
